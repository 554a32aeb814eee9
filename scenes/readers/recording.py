"""Recorded scenes: where their pictures, cameras and depth lie, and how they become scenes on one
network grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from model.errors import ImageError
from model.scene.preprocess import preprocess_images
from scenes.readers.depth_map import DepthMap
from scenes.readers.resizing import (
    Array,
    Size,
    check_principal_point,
    check_shape,
    resize_depth,
    resize_intrinsic,
    upright_size,
)
from scenes.scene import Scene

Item = TypeVar("Item")


class UnusableSceneError(ValueError):
    """A scene that has to be left out; the message is the reason that the evaluation reports."""


@dataclass(frozen=True)
class Frame:
    """One picture and its camera: `extrinsic` [3,4] world-to-camera in OpenCV axes, `intrinsic`
    [3,3] in pixels.

    `size`: (height, width) that the intrinsic holds for, None for the picture's own. A picture or
    depth map that is stored at another resolution must have the same shape. `depth` reads the map,
    unit of the translation, 0 = unknown.
    """

    picture: Path
    extrinsic: Array
    intrinsic: Array
    size: Size | None = None
    depth: Callable[[], DepthMap] | None = None

    def __post_init__(self) -> None:
        rotation = self.extrinsic[:, :3]
        if not np.isfinite(self.extrinsic).all() or np.linalg.det(rotation) < 0:
            raise ValueError(
                f"{self.picture}: its camera is no finite rotation and translation: "
                f"{self.extrinsic}"
            )
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 0.01:
            raise ValueError(
                f"{self.picture}: the rotation of its camera is not orthonormal: "
                f"{rotation.tolist()}"
            )
        fx, fy, skew = self.intrinsic[0, 0], self.intrinsic[1, 1], self.intrinsic[0, 1]
        if not (np.isfinite(self.intrinsic).all() and min(fx, fy) > 0 and abs(skew) <= 1e-3 * fx):
            raise ValueError(
                f"{self.picture}: expected an intrinsic with positive focal lengths and no skew, "
                f"found {self.intrinsic.tolist()}"
            )


@dataclass(frozen=True)
class Recording:
    """The frames of one scene, not read yet."""

    name: str
    category: str
    split: str
    frames: tuple[Frame, ...]

    def read(self, image_size: int, patch_size: int) -> Scene:
        """Pictures, cameras and depth on one grid by the rules of "fit"; pictures of other shapes
        are padded.

        Raises ValueError that names the file: missing, undecodable, turned by EXIF, of another
        shape than its camera.
        """
        sizes = [upright_size(frame.picture) for frame in self.frames]
        try:
            pictures = [frame.picture for frame in self.frames]
            batch = preprocess_images(pictures, "fit", image_size, patch_size)
        except ImageError as error:
            raise ValueError(f"{self.frames[error.index or 0].picture}: {error}") from error
        intrinsics, depths = [], []
        for frame, size, transform in zip(self.frames, sizes, batch.transforms, strict=True):
            if frame.size is None:
                check_principal_point(frame.picture, frame.intrinsic, size)
            else:
                check_shape(frame.picture, size, frame.size)
            intrinsics.append(
                resize_intrinsic(frame.intrinsic, frame.size or size, size, transform)
            )
            depth = None if frame.depth is None else frame.depth()
            if depth is not None:
                check_shape(f"depth of {frame.picture}", (depth.shape[0], depth.shape[1]), size)
            depths.append(None if depth is None else resize_depth(depth, size, transform))
        known = any(depth is not None for depth in depths)
        grid = torch.zeros(batch.images.shape[-2:])
        return Scene(
            self.name,
            self.category,
            self.split,
            batch.images,
            torch.from_numpy(np.stack([frame.extrinsic for frame in self.frames])).float(),
            torch.stack(intrinsics).float(),
            torch.stack([grid if depth is None else depth for depth in depths]) if known else None,
        )


@dataclass(frozen=True)
class RecordedScenes:
    """Scenes of a data set, read one at a time; what a reader could not use is named in `skipped`
    (scene, reason)."""

    recordings: tuple[Recording, ...]
    skipped: tuple[tuple[str, str], ...]
    image_size: int
    patch_size: int
    expected_categories: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.recordings)

    def __iter__(self) -> Iterator[Scene]:
        for recording in self.recordings:
            yield recording.read(self.image_size, self.patch_size)

    def first(self, count: int) -> RecordedScenes:
        """Only the first `count` scenes of each category."""
        seen: Counter[str] = Counter()
        kept = []
        for recording in self.recordings:
            seen[recording.category] += 1
            if seen[recording.category] <= count:
                kept.append(recording)
        return replace(self, recordings=tuple(kept))

    def spread(self, count: int) -> RecordedScenes:
        """At most `count` scenes, evenly spread over all."""
        step = max(1.0, len(self.recordings) / count)
        kept = [self.recordings[int(i * step)] for i in range(min(count, len(self.recordings)))]
        return replace(self, recordings=tuple(kept))


def collect(
    names: Iterable[str],
    frames_of: Callable[[str], Sequence[Frame]],
    *,
    category: str,
    split: str,
    **grid: Any,
) -> RecordedScenes:
    """One recording a name; names for which `frames_of` raises UnusableSceneError are skipped with
    its reason."""
    recordings, skipped = [], []
    for name in names:
        try:
            recordings.append(Recording(name, category, split, tuple(frames_of(name))))
        except UnusableSceneError as reason:
            skipped.append((name, str(reason)))
    return RecordedScenes(tuple(recordings), tuple(skipped), **grid)


def spread(items: Sequence[Item], views: int | None) -> list[Item]:
    """`views` of the items, evenly spaced from the first (None: all). Raises UnusableSceneError if
    too few."""
    count = len(items) if views is None else views
    if len(items) < max(count, 1):
        raise UnusableSceneError(f"{len(items)} frames; {max(count, 1)} are needed")
    return [items[i * len(items) // count] for i in range(count)]


def scene_folders(root: Path, marks: Sequence[str]) -> dict[str, Path]:
    """Name -> folder: `root` itself where it holds one of `marks`, else its subfolders. Raises
    ValueError."""
    require_folder(root)
    if any((root / mark).exists() for mark in marks):
        return {root.resolve().name: root}
    folders = {folder.name: folder for folder in sorted(root.iterdir()) if folder.is_dir()}
    if not any((folder / mark).exists() for folder in folders.values() for mark in marks):
        raise ValueError(
            f"{root}: neither this folder nor a folder in it holds {' or '.join(marks)}"
        )
    return folders


def require_folder(root: Path) -> None:
    """Raises ValueError where there is no such folder."""
    if not root.is_dir():
        raise ValueError(
            f"{root}: no such folder; expected the folder that the data set was unpacked into"
        )


def world_to_camera(camera_to_world: Array) -> Array:
    """Extrinsic [3,4] from a pose [4,4]."""
    rotation = camera_to_world[:3, :3].T
    return np.concatenate([rotation, -rotation @ camera_to_world[:3, 3:]], axis=1)
