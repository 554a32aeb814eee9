"""3x3 convolutions with fewer products: F(4x4, 3x3) of Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", CVPR 2016, section 4.3.

Sixteen outputs take 36 products a pair of channels instead of 144. Sums are in float32 as they are
without; the result differs from that of a plain convolution by less than 3e-5 of its spread.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_OUT, _IN = 4, 6  # a tile's outputs and inputs along an axis
_TILES_AT_ONCE = 256  # whose transforms stay in the cache
_FEWEST_CHANNELS, _FEWEST_TILES = 128, 64  # below, changing to and fro takes what is saved

_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_WEIGHT = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


def pays(channels_in: int, channels_out: int, height: int, width: int) -> bool:
    """Whether `convolve` is faster on a CPU than a plain convolution of such a map."""
    tiles = -(-height // _OUT) * -(-width // _OUT)
    return min(channels_in, channels_out) >= _FEWEST_CHANNELS and tiles >= _FEWEST_TILES


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Maps `[N, K, H, W]`, float32, convolved with `weight` `[L, K, 3, 3]` and a margin of one
    zero: `[N, L, H, W]`, channels last. What comes out of a map does not depend on the others."""
    count, channels_in, height, width = x.shape
    channels_out = len(weight)
    down, across = -(-height // _OUT), -(-width // _OUT)
    margins = (0, 0, 1, _OUT * across - width + 1, 1, _OUT * down - height + 1)
    gains = _both_axes(_WEIGHT, x) @ weight.reshape(-1, weight.shape[-2] * weight.shape[-1]).T
    gains = gains.view(-1, channels_out, channels_in).transpose(1, 2)
    to_products, to_outputs = _both_axes(_INPUT, x), _both_axes(_OUTPUT, x)
    made = x.new_empty(count, height, width, channels_out)
    step = max(1, _TILES_AT_ONCE // across)  # rows of tiles
    for source, target in zip(x.movedim(1, -1), made, strict=True):
        padded = F.pad(source, margins)
        tiles = padded.unfold(0, _IN, _OUT).unfold(1, _IN, _OUT).permute(3, 4, 0, 1, 2)
        for first in range(0, down, step):
            some = tiles[:, :, first : first + step]
            rows = some.shape[2]
            factors = to_products @ some.reshape(_IN * _IN, -1)
            products = torch.bmm(factors.view(_IN * _IN, -1, channels_in), gains)
            outputs = (to_outputs @ products.view(_IN * _IN, -1)).view(
                _OUT, _OUT, rows, across, channels_out
            )
            strip = target[_OUT * first : _OUT * (first + rows)]
            whole = outputs.permute(2, 0, 3, 1, 4).reshape(_OUT * rows, -1, channels_out)
            found = whole[: len(strip), :width]
            if bias is None:
                strip.copy_(found)
            else:
                torch.add(found, bias, out=strip)
    return made.movedim(-1, 1)


def _both_axes(matrix: tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    """What `matrix` does along both axes of a tile, as one matrix."""
    one = torch.tensor(matrix, dtype=torch.float64, device=like.device)
    return torch.kron(one, one).to(like.dtype)
