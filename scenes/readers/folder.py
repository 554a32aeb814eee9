"""A scene as a folder: one picture a frame and `cameras.json` with the true cameras."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scenes.readers.depth_map import read_millimetres, read_npy
from scenes.readers.recording import (
    Frame,
    RecordedScenes,
    UnusableSceneError,
    collect,
    scene_folders,
    spread,
)
from scenes.scene import Scene

CAMERAS = "cameras.json"
CONVENTION = (
    "extrinsic = world-to-camera [R|t], OpenCV axes (x right, y down, z forward); "
    "intrinsic in pixels of the stored image; the world is the first camera, its scale is arbitrary"
)


def write_folder(scene: Scene, folder: Path) -> None:
    """Writes the frames as `00.png`, `01.png`, ... and their cameras in the frame of the first one.

    Intrinsics are written as the scene has them: a rendered one counts pixel centres from 0.
    """
    scene = scene.normalised()
    folder.mkdir(parents=True, exist_ok=True)
    frames = []
    for i, image in enumerate(scene.images):
        name = f"{i:02d}.png"
        pixels = (image.movedim(0, -1) * 255).round().byte().numpy()
        Image.fromarray(pixels).save(folder / name)
        frames.append(
            {
                "file": name,
                "width": image.shape[2],
                "height": image.shape[1],
                "intrinsic": scene.intrinsics[i].tolist(),
                "extrinsic": scene.extrinsics[i].tolist(),
            }
        )
    described = {
        "description": f"synthetic scene {scene.name}",
        "convention": CONVENTION,
        "frames": frames,
    }
    (folder / CAMERAS).write_text(json.dumps(described, indent=1) + "\n")


def read_folder(
    root: Path, *, views: int | None = None, image_size: int, patch_size: int
) -> RecordedScenes:
    """`root` or each folder in it that has a `cameras.json`: `views` evenly spaced frames (None:
    all).

    A frame has `file`, `width`, `height`, `intrinsic` (3x3, pixels of the stored picture),
    `extrinsic` (3x4, world-to-camera) and, where depth is known, `depth`: an `.npy` file [h, w] in
    the unit of the translations, or a 16-bit `.png` in thousandths of it and at most 10; 0 where it
    is not known. Raises ValueError.
    """
    folders = scene_folders(root, [CAMERAS])

    def frames_of(name: str) -> list[Frame]:
        path = folders[name] / CAMERAS
        if not path.is_file():
            raise UnusableSceneError(f"no {CAMERAS}")
        try:
            frames = json.loads(path.read_text(encoding="utf-8"))["frames"]
            return [_frame(folders[name], frame) for frame in spread(frames, views)]
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{path}: expected 'frames', each with file, width, height, intrinsic and "
                f"extrinsic: {error!r}"
            ) from error

    return collect(
        folders,
        frames_of,
        category="folder",
        split="test",
        image_size=image_size,
        patch_size=patch_size,
    )


def _frame(folder: Path, described: Mapping[str, Any]) -> Frame:
    extrinsic, intrinsic = (
        np.array(described[key], dtype=np.float64) for key in ("extrinsic", "intrinsic")
    )
    if extrinsic.shape != (3, 4) or intrinsic.shape != (3, 3):
        raise ValueError(
            f"{folder / CAMERAS}: {described['file']} has an extrinsic {list(extrinsic.shape)} and "
            "an intrinsic "
            f"{list(intrinsic.shape)}; expected [3, 4] and [3, 3]"
        )
    depth = None
    if "depth" in described:
        path = folder / described["depth"]
        depth = partial(read_millimetres if path.suffix == ".png" else read_npy, path)
    size = (int(described["height"]), int(described["width"]))
    return Frame(folder / described["file"], extrinsic, intrinsic, size, depth)
