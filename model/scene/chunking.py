"""Scenes of more frames than fit into one pass: overlapping chunks, joined into the first one's
world.

Every pass has a world and a scale of its own. Consecutive chunks share frames; the similarity that
brings the shared frames' points together joins them, as in VGGT-Long (Deng et al., 2025). What this
drifts, `loops` takes back.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def place(parts: Sequence[Reconstruction], frames: Sequence[range]) -> list[Place]:
    """Where the worlds of the chunks `frames` of `chunk_frames` lie in the first one's; residuals
    are the joints'."""
    places = [Place(Similarity.identity())]
    seen = [Surface.of(parts[0], slice(None))]
    for k in range(1, len(parts)):
        shared = frames[k - 1].stop - frames[k].start
        places.append(fit(parts[k], slice(shared), _last(seen, shared)))
        new = Surface.of(parts[k], slice(shared, None))
        seen.append(replace(new, points=places[k].similarity.move_points(new.points).float()))
    return places


def join(
    parts: Sequence[Reconstruction], frames: Sequence[range], places: Sequence[Place] | None = None
) -> Reconstruction:
    """One scene from the chunks `frames` of `chunk_frames`, in the first chunk's world and scale.

    The chunks lie at `places`, by default where `place` finds them. A shared frame keeps what the
    earlier chunk said.
    """
    if len(parts) == 1:
        return parts[0]
    moved = [parts[0]]
    for k, at in enumerate(place(parts, frames) if places is None else places):
        if k > 0:
            moved.append(
                _moved(parts[k], slice(frames[k - 1].stop - frames[k].start, None), at.similarity)
            )
    tensors = {
        field.name: torch.cat([getattr(part, field.name) for part in moved])
        for field in fields(Reconstruction)
        if field.name != "transforms"
    }
    return Reconstruction(
        **tensors, transforms=tuple(transform for part in moved for transform in part.transforms)
    )


def _moved(part: Reconstruction, frames: slice, similarity: Similarity) -> Reconstruction:
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
