"""Sets of pictures on disk with their true cameras, from synthetic scenes or from recordings."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scenes.readers.recording import Recording
from scenes.readers.resizing import upright_size
from scenes.scene import Scene

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PictureSet:
    """S pictures of one scene.

    `extrinsics` [S,3,4] world-to-camera, OpenCV axes; `intrinsics` [S,3,3] in pixels of the
    pictures, the first one's centre at (0.5, 0.5); `depth`: one map [h,w] a picture along the
    optical axis, 0 where it is not known, or None.
    """

    name: str
    category: str
    pictures: tuple[Path, ...]
    extrinsics: Array
    intrinsics: Array
    depth: tuple[NDArray[np.float32], ...] | None = None

    def pick(self, indices: Sequence[int]) -> PictureSet:
        """Only these pictures, in this order."""
        return replace(
            self,
            name=f"{self.name} {','.join(map(str, indices))}",
            pictures=tuple(self.pictures[i] for i in indices),
            extrinsics=self.extrinsics[list(indices)],
            intrinsics=self.intrinsics[list(indices)],
            depth=None if self.depth is None else tuple(self.depth[i] for i in indices),
        )


@contextmanager
def on_disk(scene: Scene) -> Iterator[PictureSet]:
    """A rendered scene as PNG files in a folder that is removed afterwards.

    The generator counts pixel centres from 0, a picture's camera from 0.5: hence the half pixel.
    """
    with TemporaryDirectory(prefix="evaluate-") as folder:
        paths = []
        for i, image in enumerate(scene.images):
            pixels = (image.movedim(0, -1) * 255).round().byte().numpy()
            paths.append(Path(folder) / f"{i:04d}.png")
            Image.fromarray(pixels).save(paths[-1], compress_level=1)
        depth = None if scene.depth is None else tuple(scene.depth.float().numpy())
        intrinsics = scene.intrinsics.double().numpy().copy()
        intrinsics[:, :2, 2] += 0.5
        yield PictureSet(
            scene.name,
            scene.category,
            tuple(paths),
            scene.extrinsics.double().numpy(),
            intrinsics,
            depth,
        )


def whole(recording: Recording) -> PictureSet:
    """All frames of a recording. Raises ValueError where a picture is not upright."""
    intrinsics, depth = [], []
    for frame in recording.frames:
        height, width = upright_size(frame.picture)
        intrinsic = frame.intrinsic.copy()
        if frame.size is not None:
            intrinsic[0] *= width / frame.size[1]
            intrinsic[1] *= height / frame.size[0]
        intrinsics.append(intrinsic)
        depth.append(None if frame.depth is None else np.asarray(frame.depth(), np.float32))
    known = [values for values in depth if values is not None]
    return PictureSet(
        recording.name,
        recording.category,
        tuple(frame.picture for frame in recording.frames),
        np.stack([frame.extrinsic for frame in recording.frames]),
        np.stack(intrinsics),
        tuple(known) if len(known) == len(depth) else None,
    )


def subsets(total: int, views: int, count: int, seed: int) -> list[tuple[int, ...]]:
    """`count` different sets of `views` of `total` pictures, each in rising order.

    The first is spread evenly, as the readers take it; the others are drawn with `seed`. There are
    fewer where fewer exist. Raises ValueError where `total` is too small.
    """
    if total < views:
        raise ValueError(f"{total} pictures; {views} are needed")
    chosen = [tuple(i * total // views for i in range(views))]
    if comb(total, views) <= count:
        return list(combinations(range(total), views))
    draw = random.Random(f"{seed} {total} {views}")
    while len(chosen) < count:
        found = tuple(sorted(draw.sample(range(total), views)))
        if found not in chosen:
            chosen.append(found)
    return chosen
