"""Pictures as a lens without distortion would have shown them, for programs that know only such
lenses."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.scene.distortion import distort, undistort
from service.result.document import PictureDocument

_ROWS_AT_ONCE = 64
_JPEG_QUALITY = 95
_ROUNDS = 50


def undistorted_intrinsic(picture: PictureDocument) -> NDArray[np.float64]:
    """The camera [3, 3] of the undistorted picture, which has the size of the original one.

    Its focal length is the smallest that leaves no pixel without a value.
    """
    matrix = np.array(picture.intrinsic)
    k = picture.distortion
    if k == 0:
        return matrix
    size = np.array([picture.original_size.width, picture.original_size.height])
    low, high = -matrix[:2, 2], size - matrix[:2, 2]
    nearest = np.abs(np.concatenate([low, high]) / np.tile(np.diag(matrix)[:2], 2)).min()
    farthest = np.hypot(*np.maximum(np.abs(low), np.abs(high)) / np.diag(matrix)[:2])
    # A place of radius r keeps to the picture if zoom >= 1 + k (r / zoom)^2. With k > 0 that asks
    # most of the farthest corner, with k < 0 of the nearest edge.
    bend = k * (farthest if k > 0 else nearest) ** 2
    zoom = math.sqrt(1 + max(bend, 0))
    for _ in range(_ROUNDS):
        zoom = max(zoom - (zoom**3 - zoom**2 - bend) / (3 * zoom**2 - 2 * zoom + 1e-9), 2 / 3)
    if k < 0:  # beyond this radius a lens with k < 0 shows places a second time
        zoom = max(zoom, farthest * math.sqrt(-3 * k))
    matrix[0, 0] *= zoom
    matrix[1, 1] *= zoom
    return matrix


def undistorted_pixels(
    picture: PictureDocument, pixels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Where places [N, 2] of the original picture lie in the undistorted one."""
    before, after = np.array(picture.intrinsic), undistorted_intrinsic(picture)
    places = undistort((pixels - before[:2, 2]) / np.diag(before)[:2], picture.distortion)
    return places * np.diag(after)[:2] + after[:2, 2]


def undistorted_picture(picture: PictureDocument, original: NDArray[np.uint8]) -> bytes:
    """The undistorted picture in the format of the original one; without distortion its very
    bytes."""
    content = original.tobytes()
    if picture.distortion == 0:
        return content
    with Image.open(io.BytesIO(content)) as opened:
        format = opened.format
        pixels = np.asarray(opened.convert("RGB"))
    file = io.BytesIO()
    options = {"quality": _JPEG_QUALITY} if format == "JPEG" else {"compress_level": 3}
    Image.fromarray(resampled(picture, pixels)).save(file, format, **options)
    return file.getvalue()


def resampled(picture: PictureDocument, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The undistorted picture [h, w, 3] of the original pixels [h, w, 3], by cubic convolution
    (Keys 1981)."""
    before, after = np.array(picture.intrinsic), undistorted_intrinsic(picture)
    height, width = pixels.shape[:2]
    flat = pixels.reshape(-1, 3)
    result = np.empty_like(pixels)
    for top in range(0, height, _ROWS_AT_ONCE):
        row, column = np.mgrid[top : min(top + _ROWS_AT_ONCE, height), :width] + 0.5
        places = (np.stack([column, row], -1) - after[:2, 2]) / np.diag(after)[:2]
        wanted = distort(places, picture.distortion) * np.diag(before)[:2] + before[:2, 2] - 0.5
        first = np.floor(wanted)
        share = (wanted - first).astype(np.float32)
        x, y = first.astype(np.int64).transpose(2, 0, 1)
        columns = [(x + step).clip(0, width - 1) for step in range(-1, 3)]
        total = np.zeros((*x.shape, 3), np.float32)
        for step, weight in zip(range(-1, 3), _keys(share[..., 1]), strict=True):
            start = (y + step).clip(0, height - 1) * width
            line = np.zeros_like(total)
            for place, across in zip(columns, _keys(share[..., 0]), strict=True):
                line += across[..., None] * flat[start + place]
            total += weight[..., None] * line
        result[top : top + len(x)] = total.round().clip(0, 255).astype(np.uint8)
    return result


def _keys(t: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Weights of the samples at -1, 0, 1 and 2 for a place `t` in [0, 1)."""
    return (
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )
