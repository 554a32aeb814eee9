"""A trial of the kernels on the GPU that they are to run on, once for each process: a wrong kernel
is never used.

The kernels are proved in emulation and read in machine code, but a processor, driver or compiler
that nobody tried may still differ. A small layer of every scheme through every tile takes a few
milliseconds.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from kernels import reference
from kernels.cuda.backend import CudaBackend
from kernels.cuda.tiles import Tile
from kernels.formats import BYTE_BITS, PRODUCTS, largest_code

# more than one of most tiles, more than a ring of slices, ragged edges
_TOKENS, _DEPTH, _CHANNELS = 130, 1024, 138


def _arguments(activation_bits: int, weight_bits: int) -> tuple[Tensor | int | float | None, ...]:
    """Those of `linear`, without LayerNorm and GELU, whose rounding is not exact."""
    random = torch.Generator().manual_seed(activation_bits * weight_bits)
    top = largest_code(weight_bits)
    codes = torch.randint(
        -top - 1, top + 1, (_CHANNELS, _DEPTH), generator=random, dtype=torch.int8
    )
    return (
        torch.randn(_TOKENS, _DEPTH, generator=random),
        reference.stored_weight(codes, BYTE_BITS // weight_bits),
        torch.rand(_CHANNELS, generator=random),
        torch.randn(_CHANNELS, generator=random),
        activation_bits,
        weight_bits,
        None,
        None,
        0.0,
        False,
        (2 * torch.randint(0, 2, (_DEPTH,), generator=random) - 1).to(torch.int8),
        torch.rand(_DEPTH, generator=random) + 0.5,
        None,
        torch.randn(_CHANNELS, generator=random),
        torch.randn(_TOKENS, _CHANNELS, generator=random),
    )


def wrong_tiles(backend: CudaBackend, device: torch.device) -> tuple[Tile, ...]:
    """The tiles of `backend` with which a layer differs from its definition in any bit."""
    wrong = []
    cases = [_arguments(*bits) for bits in PRODUCTS]
    expected = [reference.linear(*case) for case in cases]  # type: ignore[arg-type]
    for tile in backend.tiles:
        only = replace(backend, tiles=(tile,))
        for case, right in zip(cases, expected, strict=True):
            moved = (value.to(device) if isinstance(value, Tensor) else value for value in case)
            if not torch.equal(only.linear(*moved).cpu(), right):  # type: ignore[arg-type]
                wrong.append(tile)
                break
    return tuple(wrong)
