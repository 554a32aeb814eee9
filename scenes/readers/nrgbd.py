"""Neural RGB-D (synthetic rooms): `staircase/{images/img0.png,depth/depth0.png,poses.txt}`; lengths
in metres."""

from __future__ import annotations

import re
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

SCENES = (
    "breakfast_room",
    "complete_kitchen",
    "green_room",
    "grey_white_room",
    "kitchen",
    "morning_apartment",
    "staircase",
    "thin_geometry",
    "whiteroom",
)
SIZE = (480, 640)
FOCAL = 554.2562584220408  # 60 degrees across 640 pixels
INTRINSIC = np.array([[FOCAL, 0, 320], [0, FOCAL, 240], [0, 0, 1]])

_OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenGL cameras look along -z, y up


def read_nrgbd(
    root: Path, *, views: int | None = None, image_size: int, patch_size: int
) -> RecordedScenes:
    """The nine scenes, `views` evenly spaced frames of each (None: all). Raises ValueError.

    `poses.txt` holds four lines a frame, camera-to-world in OpenGL axes. Frames whose pose the
    authors left as `nan` cannot be drawn.
    """
    require_folder(root)
    if not any((root / scene).is_dir() for scene in SCENES):
        raise ValueError(
            f"{root}: holds none of the 9 NRGBD scenes; expected folders {', '.join(SCENES)}"
        )

    def frames_of(name: str) -> list[Frame]:
        if not (root / name).is_dir():
            raise UnusableSceneError(f"no folder {name}")
        poses = _read_poses(root / name / "poses.txt")
        numbers = _numbers(root / name / "images")
        if numbers and numbers[-1] >= len(poses):
            raise ValueError(
                f"{root / name / 'poses.txt'}: {len(poses)} poses, but there is "
                f"img{numbers[-1]}.png"
            )
        posed = [number for number in numbers if np.isfinite(poses[number]).all()]
        return [_frame(root / name, number, poses[number]) for number in spread(posed, views)]

    return collect(
        SCENES,
        frames_of,
        category="nrgbd",
        split="test",
        image_size=image_size,
        patch_size=patch_size,
    )


def _numbers(folder: Path) -> list[int]:
    found = (re.fullmatch(r"img(\d+)\.png", path.name) for path in folder.glob("img*.png"))
    return sorted(int(match[1]) for match in found if match)


def _read_poses(path: Path) -> Array:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; it holds the cameras of the scene")
    try:
        return np.array(path.read_text(encoding="ascii").split(), dtype=np.float64).reshape(
            -1, 4, 4
        )
    except ValueError as error:
        raise ValueError(f"{path}: expected four lines of four numbers a frame: {error}") from error


def _frame(folder: Path, number: int, pose: Array) -> Frame:
    depth = partial(read_millimetres, folder / "depth" / f"depth{number}.png")
    extrinsic = world_to_camera(pose @ _OPENGL_TO_OPENCV)
    return Frame(folder / "images" / f"img{number}.png", extrinsic, INTRINSIC, SIZE, depth)
