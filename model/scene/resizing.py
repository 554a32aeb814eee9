"""Pictures brought to a network's size as the public code of Depth Anything 3 and of pi3 does it.

The one resizes twice with OpenCV's filters, the other once with Pillow's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
MODES = (
    "upper_bound_resize",
    "lower_bound_resize",
    "upper_bound_crop",
    "lower_bound_crop",
    "pixel_budget",
)
PIXEL_BUDGET = 255_000
"""Of a picture in mode "pixel_budget"."""


@dataclass(frozen=True)
class Placed:
    """A picture on its way to the network's grid."""

    pixels: Pixels  # [rows, columns, 3]
    original_size: tuple[int, int]  # (height, width)
    scale: tuple[float, float]  # (x, y), from the original
    cut: tuple[int, int]  # columns on the left and rows above the part that is kept

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) now."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def cropped(self, rows: int, columns: int) -> Placed:
        """Its middle part."""
        top, left = (self.pixels.shape[0] - rows) // 2, (self.pixels.shape[1] - columns) // 2
        pixels = self.pixels[top : top + rows, left : left + columns]
        cut = (self.cut[0] + left, self.cut[1] + top)
        return Placed(pixels, self.original_size, self.scale, cut)


def place(
    picture: Image.Image,
    mode: str,
    side: int,
    patch: int,
    first: tuple[int, int] | None = None,
    budget: int = PIXEL_BUDGET,
) -> Placed:
    """An RGB picture at a size whose sides are multiples of `patch`.

    - "upper_bound_resize": the longer side becomes `side`, then each side the nearest multiple.
    - "lower_bound_resize": likewise, but the shorter side becomes `side`.
    - "upper_bound_crop" and "lower_bound_crop": as these, but sides are cut down to a multiple.
    - "pixel_budget": about `budget` pixels in about its own shape, or where there is one the size
      (height, width) of the `first` picture.
    """
    if mode == "pixel_budget":
        size = budget_size(*picture.size, budget, patch) if first is None else first[::-1]
        return _placed(picture, np.array(picture.resize(size, Image.Resampling.LANCZOS)))
    bound = min if mode.startswith("lower_bound") else max
    factor = side / bound(picture.size)
    width, height = (round(length * factor) for length in picture.size)
    pixels = resized(np.array(picture), max(1, height), max(1, width))
    if mode.endswith("crop"):
        rows, columns = (max(patch, length // patch * patch) for length in (height, width))
        return _placed(picture, pixels).cropped(rows, columns)
    rows, columns = (max(patch, (n + patch // 2) // patch * patch) for n in (height, width))
    return _placed(picture, resized(pixels, rows, columns))


def budget_size(width: int, height: int, budget: int, patch: int) -> tuple[int, int]:
    """Width and height, multiples of `patch`, of at most `budget` pixels in about the shape of a
    picture; more only where a side would be less than one patch."""
    factor = math.sqrt(budget / (width * height))
    wanted = width * factor, height * factor
    columns, rows = (round(length / patch) for length in wanted)
    while columns * rows * patch**2 > budget:
        if columns / rows > wanted[0] / wanted[1]:
            columns -= 1
        else:
            rows -= 1
    return max(1, columns) * patch, max(1, rows) * patch


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """`[h, w, 3]` at another size: the mean over areas where it shrinks, cubic where a side
    grows."""
    rows, columns = pixels.shape[:2]
    if (rows, columns) == (height, width):
        return pixels
    if height > rows or width > columns:
        values = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
        cubic = F.interpolate(values, size=(height, width), mode="bicubic", align_corners=False)
        return cubic[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()
    sums = _area_sums(_area_sums(pixels.astype(np.int64), height, 0), width, 1)
    whole, rest = np.divmod(sums, rows * columns)
    tie = 2 * rest == rows * columns
    return (whole + np.where(tie, whole % 2, 2 * rest > rows * columns)).astype(np.uint8)


def _area_sums(values: NDArray[np.int64], after: int, axis: int) -> NDArray[np.int64]:
    """Sums over `after` equal parts of an axis, an element that lies in two of them shared: times
    `after`, so that they are whole numbers."""
    before = values.shape[axis]
    element, share = np.divmod(np.arange(after + 1) * before, after)
    ahead = np.zeros_like(np.take(values, [0], axis))
    up_to = np.concatenate((ahead, np.cumsum(values, axis)), axis)
    within = np.concatenate((values, ahead), axis)
    share = share.reshape([-1 if own == axis else 1 for own in range(values.ndim)])
    edges = after * np.take(up_to, element, axis) + share * np.take(within, element, axis)
    return np.diff(edges, axis=axis)


def _placed(picture: Image.Image, pixels: Pixels) -> Placed:
    width, height = picture.size
    scale = (pixels.shape[1] / width, pixels.shape[0] / height)
    return Placed(pixels, (height, width), scale, (0, 0))
