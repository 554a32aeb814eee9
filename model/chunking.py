"""Scenes of more frames than fit into one pass: overlapping chunks, joined into the first one's world.

Every pass has a world and a scale of its own. Consecutive chunks share frames; the similarity that brings the shared
frames' points together joins them, as in VGGT-Long (Deng et al., 2025). There is no loop closure.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from model.preprocess import PreprocessedImages
from model.reconstruction import Reconstruction
from model.similarity import fit_points_robustly

_POINTS_PER_FIT = 20_000


def chunk_frames(frames: int, size: int, overlap: int) -> list[range]:
    """Ranges of at most `size` frames that cover `frames`, each sharing `overlap` with the one before.

    Raises ValueError unless 0 < overlap < size.
    """
    if not 0 < overlap < size:
        raise ValueError(f"chunks of {size} frames can't share {overlap}; expected 0 < overlap < size")
    starts = range(0, max(frames - overlap, 1), size - overlap)
    return [range(start, min(start + size, frames)) for start in starts]


def take(batch: PreprocessedImages, frames: range) -> PreprocessedImages:
    """The part of a batch that one chunk reads."""
    part = slice(frames.start, frames.stop)
    return PreprocessedImages(batch.images[part], batch.transforms[part])


def join(parts: Sequence[Reconstruction], frames: Sequence[range]) -> Reconstruction:
    """One scene from the chunks `frames` of `chunk_frames`, in the first chunk's world and scale.

    A shared frame keeps what the earlier chunk said of it.
    """
    joined = parts[0]
    for part, span in zip(parts[1:], frames[1:], strict=True):
        shared = len(joined.depth) - span.start
        both = joined.mask[span.start :] & part.mask[:shared]
        confidence = torch.minimum(joined.depth_conf[span.start :], part.depth_conf[:shared])[both]
        step = max(1, len(confidence) // _POINTS_PER_FIT)
        similarity = fit_points_robustly(
            part.world_points[:shared][both][::step],
            joined.world_points[span.start :][both][::step],
            confidence[::step],
        )
        joined = Reconstruction(
            extrinsics=torch.cat((joined.extrinsics, similarity.move_extrinsics(part.extrinsics[shared:]).float())),
            intrinsics=torch.cat((joined.intrinsics, part.intrinsics[shared:])),
            original_intrinsics=torch.cat((joined.original_intrinsics, part.original_intrinsics[shared:])),
            depth=torch.cat((joined.depth, similarity.scale * part.depth[shared:])),
            depth_conf=torch.cat((joined.depth_conf, part.depth_conf[shared:])),
            world_points=torch.cat((joined.world_points, similarity.move_points(part.world_points[shared:]).float())),
            colors=torch.cat((joined.colors, part.colors[shared:])),
            mask=torch.cat((joined.mask, part.mask[shared:])),
            transforms=(*joined.transforms, *part.transforms[shared:]),
        )
    return joined
