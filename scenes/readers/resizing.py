"""Depth and intrinsics brought onto the grid that `model.scene.preprocess` brought their picture
onto.

Principal points are in continuous coordinates (the image centre is at width / 2), as in VGGT and
`model.scene.preprocess`; all data sets read here agree with that.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from model.scene.preprocess import ImageTransform
from scenes.readers.depth_map import DepthMap

Array = NDArray[np.float64]
Size = tuple[int, int]  # height, width

_ORIENTATION = 0x0112  # EXIF tag; 1 is upright


def upright_size(path: Path) -> Size:
    """(height, width) of a picture whose pixels are stored the right way up.

    Raises ValueError where there is none, or where EXIF would turn it: cameras belong to the stored
    pixels.
    """
    try:
        with Image.open(path) as picture:
            orientation, (width, height) = picture.getexif().get(_ORIENTATION, 1), picture.size
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such picture") from error
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path}: this picture cannot be decoded: {error}") from error
    if orientation != 1:
        raise ValueError(
            f"{path}: EXIF orientation {orientation} would turn the picture away from its camera; "
            "store the pixels upright, without the tag"
        )
    return height, width


def check_shape(name: Path | str, found: Size, expected: Size) -> None:
    """Raises ValueError where the aspect ratios differ by more than the rounding of a resize."""
    if abs(found[0] * expected[1] - found[1] * expected[0]) > max(*found, *expected):
        raise ValueError(
            f"{name} is {found[1]}x{found[0]} pixels; expected {expected[1]}x{expected[0]} or the "
            "same shape"
        )


def check_principal_point(path: Path, intrinsic: Array, size: Size) -> None:
    """Raises ValueError for an intrinsic made for a much smaller or larger picture than this
    one."""
    x, y = intrinsic[0, 2] / size[1], intrinsic[1, 2] / size[0]
    if not (0.25 <= x <= 0.75 and 0.25 <= y <= 0.75):
        raise ValueError(
            f"{path} is {size[1]}x{size[0]} pixels, but the principal point of its camera is "
            f"({intrinsic[0, 2]:g}, {intrinsic[1, 2]:g}); the camera was made for another "
            "resolution"
        )


def resize_intrinsic(
    intrinsic: Array, size: Size, picture: Size, transform: ImageTransform
) -> Tensor:
    """Intrinsic [3,3] of pictures of `size` on the network grid, for a picture stored as
    `picture`."""
    (sx, sy), (ox, oy) = transform.scale, transform.offset
    to_grid = np.array(
        [[sx * picture[1] / size[1], 0, ox], [0, sy * picture[0] / size[0], oy], [0, 0, 1]]
    )
    return torch.from_numpy(to_grid @ intrinsic)


def resize_depth(depth: DepthMap, picture: Size, transform: ImageTransform) -> Tensor:
    """Depth [H,W] under the centre of each network pixel, 0 on padding and where `depth` is not
    positive and finite.

    Nearest, because interpolation would invent surfaces at edges.
    """
    depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
    rows, columns = (_nearest(axis, depth.shape[axis], picture[axis], transform) for axis in (0, 1))
    inside = (rows >= 0)[:, None] & (columns >= 0)[None]
    return torch.from_numpy(np.where(inside, depth[np.ix_(rows, columns)], np.float32(0)))


def _nearest(axis: int, count: int, picture: int, transform: ImageTransform) -> NDArray[np.int64]:
    """Index of the depth row (axis 0) or column (1) of each network pixel; -1 on padding."""
    scale, offset = transform.scale[1 - axis], transform.offset[1 - axis]
    position = (np.arange(transform.network_size[axis]) + 0.5 - offset) / scale * (count / picture)
    index = np.floor(position).astype(np.int64)
    return np.where((index >= 0) & (index < count), index, -1)
