"""3x3 convolutions with fewer products: F(4x4, 3x3) of Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", CVPR 2016, section 4.3.

Sixteen outputs take 36 products a pair of channels instead of 144. Sums are in float32 as they are
without; the result differs from that of a plain convolution by less than 1e-4 of its spread.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels import kernel_path, ops
from kernels.winograd import CHANNELS, PRODUCTS, tiles_across

_TILES_AT_ONCE = 256  # whose factors and products stay in the cache
# below, changing to and fro takes what is saved
_FEWEST_CHANNELS_IN, _FEWEST_CHANNELS_OUT, _FEWEST_TILES = 64, 32, 64

_WEIGHT = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def pays(x: Tensor, channels_out: int) -> bool:
    """Whether `convolve` is faster than a plain convolution of the maps `x`: it is on a CPU with
    native kernels, where the maps are large and gradients are not asked for."""
    channels_in, height, width = x.shape[-3:]
    return (
        x.dtype == torch.float32
        and channels_in >= _FEWEST_CHANNELS_IN
        and channels_out >= _FEWEST_CHANNELS_OUT
        and channels_in % CHANNELS == channels_out % CHANNELS == 0
        and tiles_across(height) * tiles_across(width) >= _FEWEST_TILES
        and not torch.is_grad_enabled()
        and {"tile_factors", "tile_outputs"} <= kernel_path(x.device).operators
    )


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Maps `[N, K, H, W]`, float32, convolved with `weight` `[L, K, 3, 3]` and a margin of one
    zero: `[N, L, H, W]`, channels last. What comes out of a map does not depend on the others. K
    and L are multiples of 16; no gradient passes."""
    count, channels_in, height, width = x.shape
    channels_out = len(weight)
    one = torch.tensor(_WEIGHT, dtype=torch.float64, device=x.device)
    gains = torch.kron(one, one).to(x.dtype) @ weight.reshape(channels_out * channels_in, -1).T
    gains = gains.view(PRODUCTS, channels_out, channels_in).transpose(1, 2)
    made = x.new_empty(count, height, width, channels_out)
    down, step = tiles_across(height), max(1, _TILES_AT_ONCE // tiles_across(width))
    for source, target in zip(x.movedim(1, -1).contiguous(), made, strict=True):
        for first in range(0, down, step):
            factors = ops.tile_factors(source, first, min(step, down - first))
            ops.tile_outputs(target, torch.bmm(factors, gains), bias, first)
    return made.movedim(-1, 1)
