"""Textures with the statistics of photographs, made from nothing: dead leaves, clouds and both
together.

Shapes of all sizes that hide each other have the spectrum, edges and occlusions of natural pictures
("dead leaves": Lee, Mumford and Huang, "Occlusion models for natural images", 2001), and networks
that are trained on them carry over to photographs (Baradad et al., "Learning to see by looking at
noise", 2021). Colours lie close together around a muted tone, as most surfaces have them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

TILES = 24
_SIDE = 256
_LEVELS = 7  # of the pyramid, each half as wide as the one before
_LEAVES = 500
# of leaves in texels, one range for each kind of tile
_RADII = ((3.0, 60.0), (8.0, 60.0), (5.0, 25.0))


def tile_colours(
    u: Tensor, v: Tensor, width: Tensor, tile: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Red, green and blue of endlessly repeated tiles, each shaped like `u`.

    `u`, `v`: place in texels; `width`: the pixel's footprint there in texels; `tile`: which of
    `TILES`, int32.
    """
    level = torch.zeros_like(tile)
    for k in range(_LEVELS - 1):
        level += width > 1.5 * 2**k
    starts, scales = _levels(u.device)
    scale = scales.index_select(0, level.flatten()).view_as(u)
    side = _SIDE // 2**level
    x, y = u * scale - 0.5, v * scale - 0.5
    column, row = x.floor(), y.floor()
    x, y = x - column, y - row
    start = starts.index_select(0, level.flatten()).view_as(level) + tile * side * side
    left, above = column.int() & (side - 1), row.int() & (side - 1)
    right, below = (left + 1) & (side - 1), (above + 1) & (side - 1)
    table = _pyramid(u.device)

    def texel(r: Tensor, c: Tensor) -> Tensor:
        return table.index_select(1, (start + r * side + c).flatten()).view(3, *u.shape)

    upper, lower = texel(above, left), texel(below, left)
    upper += x * (texel(above, right) - upper)
    lower += x * (texel(below, right) - lower)
    red, green, blue = (upper + y * (lower - upper)).unbind(0)
    return red, green, blue


@lru_cache(maxsize=8)
def _levels(device: torch.device) -> tuple[Tensor, Tensor]:
    """Where each level of the pyramid starts in the table (int32), and its texels for each of the
    first level's."""
    sizes = [TILES * (_SIDE >> level) ** 2 for level in range(_LEVELS)]
    starts = torch.tensor([sum(sizes[:level]) for level in range(_LEVELS)], dtype=torch.int32)
    return starts.to(device), torch.tensor([0.5**level for level in range(_LEVELS)]).to(device)


@lru_cache(maxsize=8)
def _pyramid(device: torch.device) -> Tensor:
    """All tiles at all levels, level by level, as columns [3, texels]."""
    level = torch.from_numpy(np.stack([_draw_tile(k) for k in range(TILES)]).astype(np.float32))
    levels = []
    for _ in range(_LEVELS):
        levels.append(level.permute(1, 0, 2, 3).flatten(1))
        level = torch.nn.functional.avg_pool2d(level, 2)
    return torch.cat(levels, dim=1).contiguous().to(device)


def _draw_tile(index: int) -> Array:
    """Tile [3,_SIDE,_SIDE] in [0, 1] whose opposite edges fit together: clouds, dead leaves, leaves
    with a grain."""
    rng = np.random.default_rng([20_260_101, index])
    tone = rng.uniform(0.3, 0.6) + 0.05 * rng.standard_normal(3)
    if index % 4 == 0:
        cloud = _cloud(rng, 1.0)
        pattern = (
            tone[:, None, None]
            + 0.16 * cloud
            + 0.03 * rng.standard_normal((3, 1, 1)) * _cloud(rng, 1.2)
        )
    else:
        leaves = _dead_leaves(rng, *_RADII[index % 4 - 1])
        pattern = tone[:, None, None] + leaves + rng.uniform(0.03, 0.1) * _cloud(rng, 0.9)
    return np.clip(pattern, 0.03, 0.97)


def _cloud(rng: np.random.Generator, exponent: float) -> Array:
    """Noise [_SIDE,_SIDE] of unit variance whose amplitude falls with the frequency as 1 /
    f^exponent."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(_SIDE), np.fft.fftfreq(_SIDE)))
    frequency[0, 0] = np.inf
    spectrum = np.fft.fft2(rng.standard_normal((_SIDE, _SIDE))) / frequency**exponent
    noise: Array = np.fft.ifft2(spectrum).real
    return noise / noise.std()


def _dead_leaves(rng: np.random.Generator, smallest: float, largest: float) -> Array:
    """Discs and rectangles [3,_SIDE,_SIDE] that hide each other, coloured about 0; radii fall as 1
    / r^3."""
    picture = np.zeros((3, _SIDE, _SIDE))
    inverse = rng.uniform(largest**-2.0, smallest**-2.0, _LEAVES) ** rng.uniform(1.0, 1.8)
    radii = np.clip(inverse / inverse.max() * smallest**-2.0, largest**-2.0, None) ** -0.5
    # roughly from large to small, so that small ones stay in sight
    order = np.argsort(-radii * (1 + rng.normal(0.0, 0.5, _LEAVES)))
    for radius in radii[order]:
        reach = int(radius * 1.5) + 1
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
        angle, aspect = rng.uniform(0, np.pi), rng.uniform(0.4, 1.0)
        a = np.cos(angle) * x + np.sin(angle) * y
        b = (np.cos(angle) * y - np.sin(angle) * x) / aspect
        inside = (
            a * a + b * b < radius * radius
            if rng.random() < 0.5
            else np.maximum(abs(a), abs(b)) < radius
        )
        colour = 0.17 * rng.standard_normal() + 0.04 * rng.standard_normal(3)
        leaf = colour[:, None, None] + rng.uniform(-0.12, 0.12) * a / radius
        top, left = rng.integers(_SIDE, size=2) - reach
        for rows, from_rows in _wrapped(top, 2 * reach + 1):
            for columns, from_columns in _wrapped(left, 2 * reach + 1):
                np.copyto(
                    picture[:, rows, columns],
                    leaf[:, from_rows, from_columns],
                    where=inside[from_rows, from_columns],
                )
    return picture


def _wrapped(start: int, length: int) -> list[tuple[slice, slice]]:
    """Where the stretch [start, start + length) falls on a ring of _SIDE: (slice of the ring, slice
    of the stretch)."""
    pieces = []
    for turn in (-_SIDE, 0, _SIDE):
        low, high = max(start + turn, 0), min(start + turn + length, _SIDE)
        if low < high:
            pieces.append((slice(low, high), slice(low - start - turn, high - start - turn)))
    return pieces
