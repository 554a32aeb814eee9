"""Microsoft 7-Scenes: `chess/seq-01/frame-000000.{color.png,depth.png,pose.txt}`,
`chess/TestSplit.txt`; metres."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from scenes.readers.depth_map import read_millimetres
from scenes.readers.recording import (
    Frame,
    RecordedScenes,
    UnusableSceneError,
    collect,
    require_folder,
    spread,
    world_to_camera,
)
from scenes.readers.resizing import Array

SCENES = ("chess", "fire", "heads", "office", "pumpkin", "redkitchen", "stairs")
SPLIT_FILES = {"train": "TrainSplit.txt", "test": "TestSplit.txt"}
SIZE = (480, 640)
INTRINSIC = np.array([[525.0, 0, 320], [0, 525.0, 240], [0, 0, 1]])


def read_seven_scenes(
    root: Path, *, split: str = "test", views: int | None = None, image_size: int, patch_size: int
) -> RecordedScenes:
    """One scene a sequence of the split, `views` evenly spaced frames of each (None: all). Raises
    ValueError.

    Poses are camera-to-world. Depth is taken as if the depth camera were the colour camera, as the
    published protocols for point maps do.
    """
    require_folder(root)
    if split not in SPLIT_FILES:
        raise ValueError(f"split is {split!r}; 7-Scenes has {', '.join(SPLIT_FILES)}")
    if not any((root / scene).is_dir() for scene in SCENES):
        raise ValueError(
            f"{root}: holds none of the 7 scenes; expected folders {', '.join(SCENES)}"
        )

    def names() -> Iterator[str]:
        for scene in SCENES:
            yield from _sequences(root / scene, split) if (root / scene).is_dir() else [scene]

    def frames_of(name: str) -> list[Frame]:
        colours = sorted((root / name).glob("frame-*.color.png"))
        if not colours:
            raise UnusableSceneError(f"no pictures {name}/frame-*.color.png")
        return [_frame(colour) for colour in spread(colours, views)]

    return collect(
        names(),
        frames_of,
        category="7scenes",
        split=split,
        image_size=image_size,
        patch_size=patch_size,
    )


def _sequences(scene: Path, split: str) -> list[str]:
    path = scene / SPLIT_FILES[split]
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; it says which sequences belong to the split {split!r}"
        )
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    matches = [re.fullmatch(r"sequence(\d+)", line) for line in lines]
    if not lines or None in matches:
        raise ValueError(f"{path}: expected lines such as 'sequence1', found {lines}")
    return [f"{scene.name}/seq-{int(match[1]):02d}" for match in matches if match]


def _frame(colour: Path) -> Frame:
    stem = colour.name.removesuffix(".color.png")
    pose = read_pose(colour.with_name(f"{stem}.pose.txt"))
    depth = partial(read_millimetres, colour.with_name(f"{stem}.depth.png"))
    return Frame(colour, world_to_camera(pose), INTRINSIC, SIZE, depth)


def read_pose(path: Path) -> Array:
    """The 4x4 matrix of a pose file. Raises ValueError."""
    if not path.is_file():
        raise ValueError(f"{path}: no such pose")
    try:
        return np.array(path.read_text(encoding="ascii").split(), dtype=np.float64).reshape(4, 4)
    except ValueError as error:
        raise ValueError(
            f"{path}: expected 16 numbers, a camera-to-world matrix: {error}"
        ) from error
