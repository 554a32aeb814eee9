"""DTU in the layout of MVSNet's test data: `scan1/{images,cams}`, optionally `depths`; lengths in
millimetres."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from scenes.readers.depth_map import read_pfm
from scenes.readers.recording import (
    Frame,
    RecordedScenes,
    UnusableSceneError,
    collect,
    require_folder,
    spread,
)
from scenes.readers.resizing import Array

# fmt: off
TEST_SCANS = (
    1, 4, 9, 10, 11, 12, 13, 15, 23, 24, 29, 32, 33, 34, 48, 49, 62, 75, 77, 110, 114, 118,
)
# fmt: on
"""The 22 scans on which the field reports."""

_CAMERA = "_cam.txt"


def read_dtu(
    root: Path, *, views: int | None = None, image_size: int, patch_size: int
) -> RecordedScenes:
    """The test scans, `views` evenly spaced frames of each (None: all). Raises ValueError.

    A camera file `cams/00000000_cam.txt` holds the words `extrinsic` and 4x4 numbers
    (world-to-camera), `intrinsic` and 3x3 numbers, and the depth range, which is not used. Its
    picture is `images/00000000.jpg` or `.png`, its depth, where there is any,
    `depths/00000000.pfm`.
    """
    require_folder(root)
    names = [f"scan{number}" for number in TEST_SCANS]
    if not any((root / name).is_dir() for name in names):
        raise ValueError(
            f"{root}: holds none of the 22 test scans of DTU; expected folders scan1, scan4, ..."
        )

    def frames_of(name: str) -> list[Frame]:
        cameras = sorted((root / name / "cams").glob(f"*{_CAMERA}"))
        if not cameras:
            raise UnusableSceneError(f"no camera files {name}/cams/*{_CAMERA}")
        return [_frame(root / name, camera) for camera in spread(cameras, views)]

    return collect(
        names, frames_of, category="dtu", split="test", image_size=image_size, patch_size=patch_size
    )


def _frame(folder: Path, camera: Path) -> Frame:
    extrinsic, intrinsic = _read_camera(camera)
    stem = camera.name.removesuffix(_CAMERA)
    pictures = [
        path
        for path in (folder / "images" / f"{stem}{end}" for end in (".jpg", ".png"))
        if path.is_file()
    ]
    if not pictures:
        raise ValueError(
            f"{folder / 'images' / stem}: no such picture (.jpg or .png), but {camera} is its "
            "camera"
        )
    depth = folder / "depths" / f"{stem}.pfm"
    return Frame(
        pictures[0],
        extrinsic,
        intrinsic,
        depth=partial(read_pfm, depth) if depth.is_file() else None,
    )


def _read_camera(path: Path) -> tuple[Array, Array]:
    words = path.read_text(encoding="ascii", errors="replace").split()
    try:
        if words[0] != "extrinsic" or words[17] != "intrinsic":
            raise ValueError("the words 'extrinsic' and 'intrinsic' are not where they belong")
        extrinsic = np.array(words[1:17], dtype=np.float64).reshape(4, 4)[:3]
        intrinsic = np.array(words[18:27], dtype=np.float64).reshape(3, 3)
    except (ValueError, IndexError) as error:
        raise ValueError(
            f"{path}: expected 'extrinsic', 16 numbers, 'intrinsic', 9 numbers and a depth range: "
            f"{error}"
        ) from error
    return extrinsic, intrinsic
