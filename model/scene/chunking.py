"""Scenes of more frames than fit into one pass: overlapping chunks, joined into the first one's
world.

Every pass has a world and a scale of its own. Consecutive chunks share frames; the similarity that
brings the shared frames' points together joins them, as in VGGT-Long (Deng et al., 2025). What this
drifts, `loops` takes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from model.scene.preprocess import PreprocessedImages
from model.scene.reconstruction import Reconstruction
from model.scene.similarity import Similarity, fit_points_robustly

_POINTS_PER_FIT = 20_000


def chunk_frames(frames: int, size: int, overlap: int) -> list[range]:
    """Ranges of at most `size` frames that cover `frames`, each sharing `overlap` with the one
    before.

    Raises ValueError unless 0 < overlap < size.
    """
    if not 0 < overlap < size:
        raise ValueError(
            f"chunks of {size} frames can't share {overlap}; expected 0 < overlap < size"
        )
    starts = range(0, max(frames - overlap, 1), size - overlap)
    return [range(start, min(start + size, frames)) for start in starts]


def take(batch: PreprocessedImages, frames: Sequence[int]) -> PreprocessedImages:
    """The part of a batch that one pass reads."""
    return PreprocessedImages(
        batch.images[list(frames)], tuple(batch.transforms[frame] for frame in frames)
    )


@dataclass(frozen=True)
class Place:
    """Where one world lies in another: the similarity that leads there, and how well the two agree
    about it.

    `residual` is the median distance between points that should meet, as a share of their median
    depth.
    """

    similarity: Similarity
    residual: float = 0.0


@dataclass(frozen=True)
class Surface:
    """What S frames see: points `[S, H, W, 3]`, confidence and validity `[S, H, W]`."""

    points: Tensor
    confidence: Tensor
    mask: Tensor

    @classmethod
    def of(cls, part: Reconstruction, frames: slice) -> Surface:
        return cls(part.world_points[frames], part.depth_conf[frames], part.mask[frames])


def fit(part: Reconstruction, frames: slice, target: Surface) -> Place:
    """Where the world of `part` lies in that of `target`, which shows the frames `frames` of it."""
    source = Surface.of(part, frames)
    both = target.mask & source.mask
    confidence = torch.minimum(target.confidence, source.confidence)[both]
    step = max(1, len(confidence) // _POINTS_PER_FIT)
    points, wanted = source.points[both][::step], target.points[both][::step]
    similarity = fit_points_robustly(points, wanted, confidence[::step])
    distance = (similarity.move_points(points) - wanted.double()).norm(dim=-1).median()
    return Place(
        similarity, float(distance / (similarity.scale * part.depth[frames][both].median()))
    )


class Chain:
    """Chunks that are joined one after another, as they come; no more than the frames that the next
    one shares are held.

    `places` says where the worlds of those added so far lie in the first one's; residuals are the
    joints'.
    """

    def __init__(self, frames: Sequence[range]) -> None:
        """`frames` are those of `chunk_frames`."""
        self.places: list[Place] = []
        self._frames = frames
        self._seen: list[Surface] = []

    def add(self, part: Reconstruction) -> Place:
        """The next chunk."""
        number = len(self.places)
        shared = shared_with_previous(self._frames, number)
        if number == 0:
            self.places.append(Place(Similarity.identity()))
        else:
            self.places.append(fit(part, slice(shared), _last(self._seen, shared)))
        at = self.places[-1]
        if number + 1 < len(self._frames):
            new = Surface.of(part, slice(shared, None))
            if number > 0:
                new = replace(new, points=at.similarity.move_points(new.points).float())
            needed = shared_with_previous(self._frames, number + 1)
            self._seen = [_last([*self._seen, new], needed)]
        return at


def shared_with_previous(frames: Sequence[range], number: int) -> int:
    """How many frames a chunk of `chunk_frames` shares with the one before; 0 for the first."""
    return frames[number - 1].stop - frames[number].start if number else 0


def place(parts: Iterable[Reconstruction], frames: Sequence[range]) -> list[Place]:
    """Where the worlds of the chunks `frames` of `chunk_frames` lie in the first one's; residuals
    are the joints'."""
    chain = Chain(frames)
    for part in parts:
        chain.add(part)
    return chain.places


def joined(
    parts: Iterable[Reconstruction], frames: Sequence[range], places: Sequence[Place]
) -> Iterator[Reconstruction]:
    """The chunks `frames` of `chunk_frames`, which lie at `places`, one after another in the first
    one's world and scale. Each gives the frames that are new in it: a shared frame keeps what the
    earlier chunk said."""
    for number, (part, at) in enumerate(zip(parts, places, strict=True)):
        new = slice(shared_with_previous(frames, number), None)
        yield moved(part, new, at.similarity) if number else part


def join(
    parts: Sequence[Reconstruction], frames: Sequence[range], places: Sequence[Place] | None = None
) -> Reconstruction:
    """One scene from the chunks `frames` of `chunk_frames`, in the first chunk's world and scale.

    The chunks lie at `places`, by default where `place` finds them. A shared frame keeps what the
    earlier chunk said.
    """
    if len(parts) == 1:
        return parts[0]
    return concatenated(
        list(joined(parts, frames, place(parts, frames) if places is None else places))
    )


def concatenated(parts: Sequence[Reconstruction]) -> Reconstruction:
    """The frames of several reconstructions of one world as one."""
    tensors = {
        field.name: torch.cat([getattr(part, field.name) for part in parts])
        for field in fields(Reconstruction)
        if field.name != "transforms"
    }
    return Reconstruction(
        **tensors, transforms=tuple(transform for part in parts for transform in part.transforms)
    )


def moved(part: Reconstruction, frames: slice, similarity: Similarity) -> Reconstruction:
    """Some frames of a reconstruction, in the world where `similarity` leads."""
    return Reconstruction(
        extrinsics=similarity.move_extrinsics(part.extrinsics[frames]).float(),
        intrinsics=part.intrinsics[frames],
        original_intrinsics=part.original_intrinsics[frames],
        depth=similarity.scale * part.depth[frames],
        depth_conf=part.depth_conf[frames],
        world_points=similarity.move_points(part.world_points[frames]).float(),
        colors=part.colors[frames],
        mask=part.mask[frames],
        transforms=part.transforms[frames],
    )


def _last(seen: Sequence[Surface], frames: int) -> Surface:
    """The last `frames` frames, which may come from more than one chunk."""
    points, confidence, mask = (
        torch.cat([getattr(surface, field.name) for surface in seen[-frames:]])[-frames:]
        for field in fields(Surface)
    )
    return Surface(points, confidence, mask)
