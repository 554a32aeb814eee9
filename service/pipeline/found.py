"""What a finished chunk of a long scene shows while later ones are still worked on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.scene.reconstruction import Reconstruction
from service.exports.ply import write_points
from service.pipeline.report import FoundChunk
from service.storage.folder import found_file

_MOST_POINTS = 20_000


def leave_found(
    folder: Path, number: int, of: int, first: int, part: Reconstruction, keep: NDArray[np.bool_]
) -> tuple[FoundChunk, Path]:
    """Write a sample of the surer half of a chunk's points into `folder`, where `Storage.found`
    looks for it; returns its file, too. `part` holds the frames from `first` on that no chunk
    before has, `keep` [N, H, W] says what users' masks leave. Raises OSError."""
    seen = part.mask & torch.from_numpy(np.array(keep))
    if seen.any():
        seen &= part.depth_conf >= part.depth_conf[seen].median()
    points, colors = part.world_points[seen], part.colors[seen]
    every = max(1, -(-len(points) // _MOST_POINTS))
    path = folder / found_file(number)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        write_points(file, points[::every].numpy(), colors[::every].numpy())
    partial.rename(path)
    chunk = FoundChunk(
        number,
        of,
        first,
        part.extrinsics.tolist(),
        part.original_intrinsics.tolist(),
        [transform.original_size for transform in part.transforms],
        len(points[::every]),
    )
    return chunk, path
