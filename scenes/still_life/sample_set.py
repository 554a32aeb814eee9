"""A rendered scene as a folder that `scenes.readers.folder` reads: JPEGs, cameras, depth."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scenes.readers.folder import CAMERAS
from scenes.still_life.cameras import Camera, intrinsic

MOST_BYTES = 1_500_000
"""Of all pictures together."""
_CONVENTION = (
    "extrinsic = world-to-camera [R|t], OpenCV axes (x right, y down, z forward); intrinsic in "
    "pixels of the stored image, edges at integers; the world is the first camera, lengths are "
    "metres; depth = 16-bit PNG of millimetres along the optical axis, on a smaller grid of the "
    "same shape, 0 where there is none"
)


def write_sample_set(
    folder: Path,
    description: str,
    pictures: Sequence[NDArray[np.uint8]],
    cameras: Sequence[Camera],
    depths: Sequence[NDArray[np.floating]],
) -> int:
    """Writes `00.jpg`, ... and `depth/00.png`, ... with `cameras.json`; returns the JPEG quality.

    `pictures` are sRGB [H,W,3], `depths` [h,w] metres of at most 65. Quality is the highest that
    keeps all pictures within `MOST_BYTES`.
    """
    (folder / "depth").mkdir(parents=True, exist_ok=True)
    quality, encoded = _encoded(pictures)
    to_first = np.linalg.inv(np.vstack([cameras[0].extrinsic, [0, 0, 0, 1]]))
    frames = []
    for index, (jpeg, picture, camera, depth) in enumerate(
        zip(encoded, pictures, cameras, depths, strict=True)
    ):
        name = f"{index:02d}"
        (folder / f"{name}.jpg").write_bytes(jpeg)
        millimetres = np.rint(np.clip(depth * 1000, 0, 65535)).astype(np.uint16)
        Image.fromarray(millimetres).save(folder / "depth" / f"{name}.png", optimize=True)
        height, width = picture.shape[:2]
        extrinsic = np.eye(3, 4) if index == 0 else camera.extrinsic @ to_first
        frames.append(
            {
                "file": f"{name}.jpg",
                "width": width,
                "height": height,
                "intrinsic": intrinsic(width).tolist(),
                "extrinsic": extrinsic.round(9).tolist(),
                "depth": f"depth/{name}.png",
            }
        )
    described = {"description": description, "convention": _CONVENTION, "frames": frames}
    (folder / CAMERAS).write_text(json.dumps(described, indent=1) + "\n")
    return quality


def _encoded(pictures: Sequence[NDArray[np.uint8]]) -> tuple[int, list[bytes]]:
    """The pictures as JPEGs of one quality, as high as fits."""
    for quality in range(97, 50, -1):
        encoded = []
        for picture in pictures:
            file = io.BytesIO()
            Image.fromarray(picture).save(
                file, "JPEG", quality=quality, subsampling=0, optimize=True
            )
            encoded.append(file.getvalue())
        if sum(map(len, encoded)) <= MOST_BYTES:
            return quality, encoded
    raise ValueError(f"{len(pictures)} pictures do not fit {MOST_BYTES} bytes even at quality 51")
