"""A trial of the kernels on the device that they are to run on: each part against its definition.

The kernels are proved in emulation and in machine code, but a processor, driver or compiler that
nobody tried may still differ. A part is a tile of the matrix product, every prologue, or queries
and keys, each in every type, or a product of torch, on the codes whose sums need most bits. What
traps or touches memory that is not its own takes its whole process along, so `verdict.py` runs
`main` in a process of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kernels import reference
from kernels.cuda.backend import HEAD_WIDTHS, CudaBackend
from kernels.cuda.library import KernelLibrary, Layout
from kernels.cuda.products import PRODUCTS as OF_TORCH
from kernels.cuda.products import takes
from kernels.cuda.targets import find_target
from kernels.cuda.tiles import tiles_of
from kernels.formats import BYTE_BITS, PRODUCTS, largest_code

PROLOGUES, HEADS = "prologues", "queries and keys"
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
# more than one of most tiles, more than a ring of slices, ragged edges
_TOKENS, _DEPTH = 130, 1024
_CHANNELS = dict(zip(FLOATS, (138, 140, 140), strict=True))  # multiples of a vector, and not
_WIDTHS = (32, 64, 96, 128, 256, 512, 1024, 2048, 4096)
_ROWS = 5


def main() -> int:
    """Tries the parts that the command line names behind an object, a target and a device. Prints
    "PART begins", then "PART ok" or "PART wrong"."""
    path, target, device, *parts = sys.argv[1:]
    library, on = KernelLibrary(Path(path)), torch.device(device)

    def stream(device: torch.device) -> int:
        return 0 if device.type != "cuda" else torch.cuda.current_stream(device).cuda_stream

    found = find_target(target)
    backend = CudaBackend(library, found, 1, stream, tiles_of(found))
    if on.type == "cuda":
        torch.cuda.set_device(on)
    for part in parts:
        print(part, "begins", flush=True)
        print(part, "ok" if is_right(backend, on, part) else "wrong", flush=True)
    return 0


def parts_of(backend: CudaBackend) -> tuple[str, ...]:
    """The names of all parts."""
    tiles = (tile_part(tile.index) for tile in backend.tiles)
    return (PROLOGUES, HEADS, *tiles, *backend.products)


def tile_part(index: int) -> str:
    """The name of the part that is one tile."""
    return f"tile {index}"


def is_right(backend: CudaBackend, device: torch.device, part: str) -> bool:
    """Whether every case of `part` computes what the definition does."""
    if part == PROLOGUES:
        return all(_prologue_is_right(backend, device, *case) for case in _prologue_cases())
    if part == HEADS:
        return all(
            _heads_are_right(backend, device, width, dtype)
            for width in HEAD_WIDTHS
            for dtype in FLOATS
        )
    if part in OF_TORCH:
        return all(
            _product_is_right(part, device, *bits)
            and all(_way_is_right(backend, device, part, *bits, dtype) for dtype in FLOATS)
            for bits in PRODUCTS
            if takes(part, *bits)
        )
    tile = next(tile for tile in backend.tiles if tile_part(tile.index) == part)
    only = replace(backend, tiles=(tile,))
    every = [(PRODUCTS[0], dtype) for dtype in FLOATS]
    for bits, dtype in (*every, *((bits, FLOATS[0]) for bits in PRODUCTS[1:])):
        case = _layer(*bits, dtype)
        expected = reference.linear(*case)
        if not torch.equal(only.linear(*_moved(case, device)).cpu(), expected):
            return False
    return True


def _moved(arguments: tuple[Any, ...], device: torch.device) -> Iterator[Any]:
    return (value.to(device) if isinstance(value, Tensor) else value for value in arguments)


def _product_is_right(
    name: str, device: torch.device, activation_bits: int, weight_bits: int
) -> bool:
    """On random codes, and on codes that make the largest sums of every short slice and end in
    their last bit."""
    random = torch.Generator().manual_seed(activation_bits * weight_bits)
    for depth in (_DEPTH, _WIDTHS[-1]):
        for extreme in (False, True):
            codes, weight = (
                worst_codes(rows, depth, bits)
                if extreme
                else random_codes(rows, depth, bits, random)
                for rows, bits in ((_TOKENS, activation_bits), (_TOKENS + 8, weight_bits))
            )
            sums = OF_TORCH[name](codes.to(device), weight.to(device)).cpu()
            if not torch.equal(sums.double(), codes.double() @ weight.double().T):
                return False
    return True


def _way_is_right(
    backend: CudaBackend,
    device: torch.device,
    name: str,
    activation_bits: int,
    weight_bits: int,
    dtype: torch.dtype,
) -> bool:
    """Of a whole layer, behind the product."""
    case = _layer(activation_bits, weight_bits, dtype)
    x, weight, scale, bias, _, _, *prologue, layer_scale, residual = _moved(case, device)
    output = backend.linear_by(
        x,
        weight,
        weight_bits,
        (*prologue, activation_bits),
        (scale, bias, layer_scale, residual),
        dtype,
        name,
    )
    return torch.equal(output.cpu(), reference.linear(*case))


def random_codes(rows: int, depth: int, bits: int, random: torch.Generator) -> Tensor:
    """int8 `[rows, depth]`, of any of the codes of so many bits."""
    top = largest_code(bits)
    return torch.randint(-top - 1, top + 1, (rows, depth), generator=random, dtype=torch.int8)


def worst_codes(rows: int, depth: int, bits: int) -> Tensor:
    """int8 `[rows, depth]`: the lowest code everywhere, so that sums grow as fast as they can, but
    for one place of a row, another one in every row, whose product is odd."""
    codes = torch.full((rows, depth), -largest_code(bits) - 1, dtype=torch.int8)
    codes[torch.arange(rows), torch.arange(rows) * 31 % depth] = 1
    codes[:, -1] = 1
    return codes


def _signs(width: int, random: torch.Generator) -> Tensor:
    return (2 * torch.randint(0, 2, (width,), generator=random) - 1).to(torch.int8)


def _layer(activation_bits: int, weight_bits: int, dtype: torch.dtype) -> tuple[Any, ...]:
    """The arguments of `linear`, without LayerNorm and GELU, whose rounding is not exact."""
    random = torch.Generator().manual_seed(activation_bits * weight_bits)
    channels = _CHANNELS[dtype]
    codes = random_codes(channels, _DEPTH, weight_bits, random)
    return (
        torch.randn(_TOKENS, _DEPTH, generator=random).to(dtype),
        reference.stored_weight(codes, BYTE_BITS // weight_bits),
        torch.rand(channels, generator=random),
        torch.randn(channels, generator=random),
        activation_bits,
        weight_bits,
        None,
        None,
        0.0,
        False,
        _signs(_DEPTH, random),
        torch.rand(_DEPTH, generator=random) + 0.5,
        None,
        torch.randn(channels, generator=random),
        torch.randn(_TOKENS, channels, generator=random).to(dtype),
    )


def _prologue_cases() -> Iterator[tuple[int, bool, bool, bool, torch.dtype]]:
    for width in _WIDTHS:
        for dtype in FLOATS:
            for norm in (False, True):
                for gelu in (False, True):
                    yield width, norm, gelu, False, dtype
            yield width, False, False, True, dtype


def _prologue_is_right(
    backend: CudaBackend,
    device: torch.device,
    width: int,
    norm: bool,
    gelu: bool,
    gated: bool,
    dtype: torch.dtype,
) -> bool:
    """Code by code; after LayerNorm, GELU or a gate, whose rounding is not exact, a code may be
    its neighbour."""
    random = torch.Generator().manual_seed(width)
    weights = [torch.rand(width, generator=random) + 0.5 if norm else None for _ in range(2)]
    rotated = width & (width - 1) == 0
    x = torch.randn(_ROWS, width * (1 + gated), generator=random).to(dtype)
    prologue: tuple[Any, ...] = (
        *weights,
        1e-5,
        gelu,
        _signs(width, random) if rotated else None,
        torch.rand(width, generator=random) + 0.5,
        None,
        BYTE_BITS,
    )
    moved = tuple(_moved(prologue, device))
    codes, scale = (y.cpu() for y in backend.quantize(x.to(device), moved, Layout.BYTES, gated))
    expected = reference.quantize_rows(reference.gated(x) if gated else x, *prologue)
    if not (norm or gelu or gated):
        return torch.equal(codes, expected[0]) and torch.equal(scale, expected[1])
    near = (codes.int() - expected[0].int()).abs().max() <= 1
    return bool(near) and torch.allclose(scale, expected[1], rtol=1e-5, atol=0)


def _heads_are_right(
    backend: CudaBackend, device: torch.device, width: int, dtype: torch.dtype
) -> bool:
    random = torch.Generator().manual_seed(width)
    qkv = torch.randn(1, _ROWS, 3, 3, width, generator=random).to(dtype)
    norms = [torch.randn(width, generator=random) for _ in range(4)]
    tables = [torch.randn(_ROWS, width, generator=random) for _ in range(2)]
    case: tuple[Any, ...] = (qkv, *norms, 1e-5, *tables)
    tolerance = max(1e-5, torch.finfo(dtype).eps)
    return all(
        torch.allclose(ours.cpu().float(), theirs.float(), rtol=tolerance, atol=tolerance)
        for ours, theirs in zip(
            backend.qk_norm_rope(*_moved(case, device)), reference.qk_norm_rope(*case), strict=True
        )
    )
