"""Products of codes by kernels that torch brings, exact like ours: where they are faster, they run.

Their sums come out whole and go through `epilogue.cu` afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.cuda.targets import Capability
from kernels.formats import PACKED_BITS

_LEAST_ROWS = 32  # of `_int_mm` on a GPU, which wants more than 16
_MULTIPLE = 16  # of depth and channels in `_scaled_mm`; 8 is enough for `_int_mm`


def by_int8(codes: Tensor, weight: Tensor) -> Tensor:
    """Exact int32 sums `[M, N]` of int8 codes `[M, K]` and `[N, K]` by `torch._int_mm`."""
    rows, channels = len(codes), len(weight)
    codes = _padded(codes, max(0, _LEAST_ROWS - rows))
    return torch._int_mm(codes, _padded(weight, -channels % _MULTIPLE).T)[:rows, :channels]


def by_e4m3(codes: Tensor, weight: Tensor) -> Tensor:
    """The same of codes of 4 bits by `torch._scaled_mm` on e4m3, as float32.

    e4m3 has 4 significant bits with the leading one, so that it holds every whole number up to 16.
    The units add products up in fewer bits than float32 has: about 14 on an H100 (DeepSeek-V3
    technical report, section 3.3.2). Without `use_fast_accum` their sums go to float32 registers
    after every 128 of depth (CUTLASS, `mma_promotion_interval` of 4 steps of 32). 128 products of
    such codes are at most 2^13, which 14 bits hold, and a whole sum is below 2^24. That the
    hardware does so is assumed here and tried on it (`trial.py`) before this runs.
    """
    rows, channels = len(codes), len(weight)
    activation = _padded(codes, 0).to(torch.float8_e4m3fn)
    stored = _padded(weight, -channels % _MULTIPLE).to(torch.float8_e4m3fn)
    one = torch.ones((), device=codes.device)
    sums = torch._scaled_mm(
        activation, stored.T, one, one, out_dtype=torch.float32, use_fast_accum=False
    )
    return sums[:rows, :channels]


Product = Callable[[Tensor, Tensor], Tensor]

PRODUCTS: dict[str, Product] = {"int8 of torch": by_int8, "e4m3 of torch": by_e4m3}
_LEAST: dict[str, Capability] = {"int8 of torch": (8, 0), "e4m3 of torch": (8, 9)}


def products_of(capability: Capability) -> tuple[str, ...]:
    """The names of those whose instructions a GPU has."""
    return tuple(name for name in PRODUCTS if capability >= _LEAST[name])


def takes(name: str, activation_bits: int, weight_bits: int) -> bool:
    """Whether a product is exact on codes of so many bits."""
    return name != "e4m3 of torch" or max(activation_bits, weight_bits) <= PACKED_BITS


def _padded(codes: Tensor, below: int) -> Tensor:
    """`[M, K]` with so many rows of zeros below it, and K brought to a multiple of 16."""
    right = -codes.shape[1] % _MULTIPLE
    return F.pad(codes, (0, right, 0, below)) if below or right else codes
