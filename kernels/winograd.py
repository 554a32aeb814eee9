"""The definition of what stands around the products of a 3x3 convolution by tiles: F(4x4, 3x3) of
Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.3.

A tile's 6 x 6 inputs become the factors of 36 products, and 36 products its 4 x 4 outputs. Every
operation is rounded in the order written here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TILE_OUT, TILE_IN = 4, 6
PRODUCTS = TILE_IN * TILE_IN
CHANNELS = 16
"""What the channels of a map are a multiple of."""


def tiles_across(size: int) -> int:
    """Tiles that cover so many pixels."""
    return -(-size // TILE_OUT)


def tile_factors(map: Tensor, first: int, rows: int) -> Tensor:
    """Factors of products; see `kernels.ops.tile_factors`."""
    height, width, channels = map.shape
    down, across = tiles_across(height), tiles_across(width)
    margins = (0, 0, 1, TILE_OUT * across - width + 1, 1, TILE_OUT * down - height + 1)
    tiles = F.pad(map, margins).unfold(0, TILE_IN, TILE_OUT).unfold(1, TILE_IN, TILE_OUT)
    some = tiles[first : first + rows]
    factors = _inputs_to_factors(_inputs_to_factors(some, -2), -1)
    return factors.permute(3, 4, 0, 1, 2).reshape(PRODUCTS, -1, channels)


def tile_outputs(map: Tensor, products: Tensor, bias: Tensor | None, first: int) -> None:
    """Products to some rows of a map; see `kernels.ops.tile_outputs`."""
    width, channels = map.shape[1:]
    tiles = products.view(TILE_IN, TILE_IN, -1, tiles_across(width), channels)
    outputs = _products_to_outputs(_products_to_outputs(tiles, 0), 1)
    strip = outputs.permute(2, 0, 3, 1, 4).flatten(2, 3).flatten(0, 1)
    target = map[TILE_OUT * first :][: len(strip)]
    target.copy_(strip[: len(target), :width])
    if bias is not None:
        target += bias


def _inputs_to_factors(inputs: Tensor, axis: int) -> Tensor:
    d0, d1, d2, d3, d4, d5 = inputs.unbind(axis)
    outer, inner = d4 - d2, d3 - d1
    even, odd = d4 - 4 * d2, d3 - 4 * d1
    return torch.stack(
        (
            outer + 4 * (d0 - d2),
            even + odd,
            even - odd,
            outer + 2 * inner,
            outer - 2 * inner,
            (d5 - d3) - 4 * inner,
        ),
        axis,
    )


def _products_to_outputs(products: Tensor, axis: int) -> Tensor:
    m0, m1, m2, m3, m4, m5 = products.unbind(axis)
    near, difference, far, far_difference = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return torch.stack(
        (
            (m0 + near) + far,
            difference + 2 * far_difference,
            near + 4 * far,
            (difference + 8 * far_difference) + m5,
        ),
        axis,
    )
