"""The kernels as nvcc compiles them, run by the interpreter of `ptx/` against the definition, and
faults seeded into them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kernels import reference
from kernels.cuda.backend import CudaBackend
from kernels.cuda.build import find_compiler
from kernels.cuda.library import KernelLibrary, Layout
from kernels.cuda.products import PRODUCTS as OF_TORCH
from kernels.cuda.targets import find_target
from kernels.cuda.tiles import TILES, Tile, tiles_of
from tests.kernels.cuda.ptx.fault import Fault
from tests.kernels.cuda.ptx.library import interpreted_backend

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="nvcc is not installed")

F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
SCHEMES = [(4, 4), (8, 4), (8, 8)]  # bits of activations and weights
ARCHITECTURES = [
    pytest.param("sm_80", marks=pytest.mark.slow),
    pytest.param("sm_89", marks=pytest.mark.slow),
    "sm_90a",
    pytest.param("sm_120", marks=pytest.mark.slow),
]


@pytest.fixture
def interpret(emulated_library: KernelLibrary) -> Callable[..., CudaBackend]:
    return lambda *given: interpreted_backend(Path(emulated_library.handle._name), *given)


def _signs(width: int) -> torch.Tensor:
    return (2 * torch.randint(0, 2, (width,)) - 1).to(torch.int8)


def _prologue(width: int, norm: bool, gelu: bool, rotated: bool = True) -> tuple[Any, ...]:
    """The arguments of `quantize_rows` between the tokens and the bits."""
    return (
        torch.rand(width) + 0.5 if norm else None,
        torch.randn(width) if norm else None,
        1e-5,
        gelu,
        _signs(width) if rotated else None,
        torch.rand(width) + 0.5,
        torch.tensor([0.9, 0.8]),
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("tokens", "width", "norm", "gelu", "dtype", "bits"),
    [
        (3, 1024, True, False, F32, 4),  # qkv and fc1 of VGGT-1B, a block with a missing row
        (2, 1024, True, False, BF16, 4),
        (2, 1024, False, False, BF16, 4),  # proj
        (1, 4096, False, True, BF16, 4),  # fc2
        (1, 4096, False, True, F16, 8),
        (1, 2048, True, False, F32, 8),  # the camera head
        (2, 2048, False, False, F32, 4),
        (9, 32, False, False, F32, 4),
        (3, 128, True, True, F16, 8),
        (5, 512, False, False, F16, 4),
    ],
)
def test_codes_are_the_definitions(
    interpret: Any,
    architecture: str,
    tokens: int,
    width: int,
    norm: bool,
    gelu: bool,
    dtype: torch.dtype,
    bits: int,
) -> None:
    torch.manual_seed(width)
    x, prologue = (2 * torch.randn(tokens, width)).to(dtype), _prologue(width, norm, gelu)
    codes, scale = interpret(architecture).quantize_rows(x, *prologue, bits)
    _check_codes(
        codes, scale, reference.quantize_rows(x, *prologue, bits), exact=not (norm or gelu)
    )


def _check_codes(
    codes: torch.Tensor,
    scale: torch.Tensor,
    expected: tuple[torch.Tensor, torch.Tensor],
    exact: bool,
) -> None:
    """LayerNorm sums in another order than torch, and erf and exp are rounded otherwise: a code may
    be that of the neighbour then."""
    torch.testing.assert_close(scale, expected[1], rtol=0 if exact else 2e-6, atol=0)
    difference = (codes.int() - expected[0].int()).abs()
    assert difference.max() <= (0 if exact else 1)
    assert difference.sum() <= 0.001 * difference.numel()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("tokens", "width", "dtype", "bits"),
    [
        (1, 4096, BF16, 4),  # w3 of Depth Anything 3's Giant
        (1, 4096, F16, 8),
        (2, 2048, F32, 4),
        (3, 128, BF16, 8),
        (3, 96, F32, 8),  # not rotated
    ],
)
def test_gated_tokens_have_the_definitions_codes(
    interpret: Any, architecture: str, tokens: int, width: int, dtype: torch.dtype, bits: int
) -> None:
    torch.manual_seed(width)
    # from gates that are shut, where the exponential overflows, to ones that are open
    gate, value = 20 * torch.randn(tokens, width) ** 3, torch.randn(tokens, width)
    x = torch.cat((gate, value), dim=-1).to(dtype)
    prologue = (*_prologue(width, False, False, rotated=width & (width - 1) == 0), bits)
    codes, scale = interpret(architecture).quantize(x, prologue, Layout.BYTES, gated=True)
    expected = reference.quantize_rows(reference.gated(x), *prologue)
    _check_codes(codes, scale, expected, exact=False)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("width", [96, 672, 4064])
def test_widths_that_are_no_power_of_two_are_quantised_unrotated(
    interpret: Any, architecture: str, width: int
) -> None:
    torch.manual_seed(width)
    x, prologue = torch.randn(3, width), _prologue(width, False, False, rotated=False)
    codes, scale = interpret(architecture).quantize_rows(x, *prologue, 8)
    _check_codes(codes, scale, reference.quantize_rows(x, *prologue, 8), exact=True)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [F32, F16, BF16], ids=str)
@pytest.mark.parametrize(
    ("heads", "width", "norm", "rope"),
    [(16, 64, True, True), (16, 64, True, False), (3, 64, False, True), (3, 20, True, True)],
)
def test_queries_and_keys_are_normalised_and_turned_as_defined(
    interpret: Any,
    architecture: str,
    heads: int,
    width: int,
    norm: bool,
    rope: bool,
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(heads)
    qkv = torch.randn(2, 3, 3, heads, width).to(dtype)
    norms = [torch.randn(width) if norm else None for _ in range(4)]
    tables = [torch.randn(3, width) if rope else None for _ in range(2)]
    got = interpret(architecture).qk_norm_rope(qkv, *norms, 1e-5, *tables)
    tolerance = 4e-6 if dtype == F32 else torch.finfo(dtype).eps
    for ours, expected in zip(got, reference.qk_norm_rope(qkv, *norms, 1e-5, *tables), strict=True):
        torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


def _layer(
    bits: tuple[int, int], tokens: int, depth: int, channels: int, dtype: torch.dtype
) -> list[Any]:
    """The arguments of `linear` without LayerNorm and GELU, whose rounding is not exact."""
    torch.manual_seed(depth + channels)
    top = reference.largest_code(bits[1])
    codes = torch.randint(-top - 1, top + 1, (channels, depth), dtype=torch.int8)
    rotated = depth & (depth - 1) == 0
    return [
        torch.randn(tokens, depth).to(dtype),
        reference.pack_int4(codes) if bits[1] == 4 else codes,
        torch.rand(channels) * 0.1,
        torch.randn(channels),
        *bits,
        *_prologue(depth, False, False, rotated=rotated),
        torch.randn(channels),
        torch.randn(tokens, channels).to(dtype),
    ]


# one token, ragged everywhere, more than one tile and than a ring of slices
PRODUCTS = [(1, 32, 1, F32), (37, 352, 75, BF16), (130, 1024, 138, F32), (130, 160, 264, F16)]


def _products(architecture: str, slow: bool) -> list[Any]:
    """Every tile with kernels on `architecture`, every scheme, every product."""
    return [
        pytest.param(
            architecture,
            tile,
            bits,
            product,
            marks=[pytest.mark.slow] if slow or product[1] > 352 or not tile.warpgroup else [],
            id=f"{architecture} {tile} a{bits[0]}w{bits[1]} {product[0]}x{product[1]}x{product[2]}",
        )
        for tile in tiles_of(find_target(architecture))
        for bits in SCHEMES
        for product in PRODUCTS
    ]


@pytest.mark.parametrize(
    ("architecture", "tile", "bits", "product"),
    [
        *_products("sm_80", slow=True),
        *_products("sm_89", slow=True),
        *_products("sm_90a", slow=False),
        *_products("sm_120", slow=True),
    ],
)
def test_a_layer_is_the_definition_bit_for_bit(
    interpret: Any,
    architecture: str,
    tile: Tile,
    bits: tuple[int, int],
    product: tuple[int, int, int, torch.dtype],
) -> None:
    arguments = _layer(bits, *product)
    backend = dataclasses.replace(interpret(architecture), tiles=(tile,))
    assert torch.equal(backend.linear(*arguments), reference.linear(*arguments))


def _by_torch(backend: CudaBackend, name: str, arguments: list[Any]) -> torch.Tensor:
    """A layer whose product is torch's own on this CPU, and all else ours."""
    x, weight, scale, bias, activation_bits, weight_bits, *prologue, layer_scale, residual = (
        arguments
    )
    return backend.linear_by(
        x,
        weight,
        weight_bits,
        (*prologue, activation_bits),
        (scale, bias, layer_scale, residual),
        x.dtype,
        name,
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", OF_TORCH)
@pytest.mark.parametrize(
    ("product", "missing"),
    [
        ((1, 32, 1, F32), ()),
        ((70, 32, 138, F16), ()),  # rows of half types that are not aligned
        ((3, 32, 132, BF16), ()),
        ((65, 32, 260, F32), (3,)),
        ((2, 32, 8, BF16), (3, -2, -1)),
    ],
)
def test_sums_of_torch_become_the_definitions_output_bit_for_bit(
    interpret: Any,
    architecture: str,
    name: str,
    product: tuple[int, int, int, torch.dtype],
    missing: tuple[int, ...],
) -> None:
    arguments = _layer((4, 4), *product)
    for position in missing:
        arguments[position] = None
    got = _by_torch(interpret(architecture), name, arguments)
    assert torch.equal(got, reference.linear(*arguments))


def test_sums_of_torch_are_read_once_and_the_output_is_written_once(interpret: Any) -> None:
    backend = interpret("sm_90a")
    arguments = _layer((4, 4), 64, 32, 256, BF16)
    _by_torch(backend, "int8 of torch", arguments)
    requests = backend.library.launches[-1].requests
    assert all(request.actual <= request.least for request in requests.values()), requests


def _accumulators(backend: CudaBackend) -> tuple[torch.Tensor, torch.Tensor]:
    """Those of a deep product by the smaller warpgroup tile, and what the definition has."""
    torch.manual_seed(0)
    codes, weight = (torch.randint(-8, 8, (130, 1024)).to(torch.int8) for _ in range(2))
    backend = dataclasses.replace(backend, tiles=(TILES[4],))
    got = backend.integer_matmul(codes, reference.pack_int4(weight[:64]), 4, 4)
    return got, reference.integer_matmul(codes, weight[:64], 4, 4)


def test_bare_accumulators_are_the_definitions(interpret: Any) -> None:
    got, expected = _accumulators(interpret("sm_90a"))
    assert torch.equal(got, expected)


def _edited(kernel: str, pattern: str, place: int | None, replacement: str) -> Callable[[str], str]:
    """Puts `replacement` in the place-th match of `pattern`, or in all of them, in the kernel whose
    name has `kernel`."""

    def edit(text: str) -> str:
        start = text.index(f".entry {text.split(kernel)[0].split()[-1]}{kernel}")
        end = text.index("\n}\n", start)
        found = list(re.finditer(pattern, text[start:end]))
        assert found, pattern
        for match in reversed(found if place is None else [found[place]]):
            before, after = text[: start + match.start()], text[start + match.end() :]
            text = before + match.expand(replacement) + after
        return text

    return edit


WARPGROUP = "warpgroup_gemm_kernelILi4ELi128E"
PRODUCT_FAULTS = [
    ("no fence.proxy.async in the loop", r"fence\.proxy\.async\.shared::cta;", 1, "", "published"),
    ("no barrier in the loop", r"bar\.sync\s+0;", 1, "", "without a barrier|not published"),
    ("no barrier before the loop", r"bar\.sync\s+0;", 0, "", "without a barrier|not published"),
    (
        "a wait for copies that is too lax",
        r"cp\.async\.wait_group 1;",
        0,
        "cp.async.wait_group 2;",
        "not waited for",
    ),
    ("no wait for copies", r"cp\.async\.wait_group 2;", 0, "", "not waited for"),
    ("no wgmma.fence", r"wgmma\.fence\.sync\.aligned;", 0, "", "wgmma.fence"),
    ("no commit", r"wgmma\.commit_group\.sync\.aligned;", 0, "", "not committed"),
    ("no wait for products", r"wgmma\.wait_group\.sync\.aligned 0;", 0, "", "running wgmma"),
    (
        "copies of a part of a chunk",
        r"(selp\.[bsu]32\s+%r\d+), 16, 0,",
        0,
        r"\1, 8, 0,",
        "part of its 16 bytes",
    ),
]


@pytest.mark.parametrize(
    ("pattern", "place", "replacement", "message"),
    [fault[1:] for fault in PRODUCT_FAULTS],
    ids=[fault[0] for fault in PRODUCT_FAULTS],
)
def test_a_fault_in_the_warpgroup_product_is_found(
    interpret: Any, pattern: str, place: int, replacement: str, message: str
) -> None:
    backend = interpret("sm_90a", _edited(WARPGROUP, pattern, place, replacement))
    with pytest.raises(Fault, match=message):
        _accumulators(backend)


PROLOGUE = "prologue_kernelIfLi10E"
LOAD = r"(ld\.global\.v4\.\S+\s+\{[^}]*\}, \[%rd\d+)(?:\+\d+)?\]"
PROLOGUE_FAULTS = [
    ("no barriers", r"bar\.sync\s+0;", "", "without a barrier|nobody wrote"),
    ("an exchange that stores nothing", r"st\.shared\.\S+\s[^;]*;", "", "nobody wrote"),
    ("codes that are not stored", r"st\.global\.v4\S+\s[^;]*;", "", "bytes are not written"),
    (
        "scales that every thread stores",
        r"@%p\d+ bra\s+\S+;(\s+(?:[^\n@]*\n){1,9}?\s*st\.global\.f32)",
        r"\1",
        "two threads write",
    ),
    ("loads beyond the row", LOAD, r"\1+65536]", "bytes 65536 to"),
    ("loads that are not aligned", LOAD, r"\1+4]", "no multiple of 16"),
]


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [fault[1:] for fault in PROLOGUE_FAULTS],
    ids=[fault[0] for fault in PROLOGUE_FAULTS],
)
def test_a_fault_in_the_prologue_is_found(
    interpret: Any, pattern: str, replacement: str, message: str
) -> None:
    torch.manual_seed(0)
    x, prologue = torch.randn(2, 1024), _prologue(1024, False, False)
    backend = interpret("sm_90a", _edited(PROLOGUE, pattern, None, replacement))
    with pytest.raises(Fault, match=message):
        backend.quantize_rows(x, *prologue, 4)


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"cvt\.rni\.s32\.f32", "cvt.rzi.s32.f32"),  # rounding towards zero
        (r"add\.rn\.f32", "sub.rn.f32"),  # a wrong sign in a butterfly
    ],
    ids=["rounding", "butterfly"],
)
def test_an_error_in_arithmetic_shows_in_the_codes(
    interpret: Any, pattern: str, replacement: str
) -> None:
    torch.manual_seed(0)
    x, prologue = torch.randn(2, 1024), _prologue(1024, False, False)
    backend = interpret("sm_90a", _edited(PROLOGUE, pattern, None, replacement))
    codes, _ = backend.quantize_rows(x, *prologue, 8)
    assert not torch.equal(codes, reference.quantize_rows(x, *prologue, 8)[0])


@pytest.mark.parametrize(
    ("width", "norm", "gelu", "most"),
    [(1024, True, False, 70), (1024, False, False, 60), (4096, False, True, 90)],
    ids=["LayerNorm", "neither", "GELU"],
)
def test_the_prologue_keeps_its_budget_of_instructions(
    interpret: Any, width: int, norm: bool, gelu: bool, most: int
) -> None:
    """Of a thread, for an element."""
    backend = interpret("sm_90a")
    x = torch.randn(2, width).to(BF16)
    backend.quantize_rows(x, *_prologue(width, norm, gelu)[:5], None, None, 4)
    assert 32 * backend.library.launches[0].total / x.numel() <= most


def test_the_prologue_of_gated_tokens_keeps_its_budget_of_instructions(interpret: Any) -> None:
    """Of a thread, for an element of the product."""
    backend = interpret("sm_90a")
    x = torch.randn(2, 2 * 4096).to(BF16)
    prologue = (*_prologue(4096, False, False)[:5], None, None, 4)
    backend.quantize(x, prologue, Layout.EVEN_ODD, gated=True)
    assert 32 * backend.library.launches[0].total / (2 * 4096) <= 75


def test_the_epilogue_behind_torchs_products_keeps_its_budget_of_instructions(
    interpret: Any,
) -> None:
    """Of a thread, for a value of the output with bias, layer scale and residual."""
    backend = interpret("sm_90a")
    _by_torch(backend, "int8 of torch", _layer((4, 4), 64, 32, 256, BF16))
    assert 32 * backend.library.launches[-1].total / (64 * 256) <= 20


def test_queries_and_keys_keep_their_budget_of_instructions(interpret: Any) -> None:
    """Of a warp, for one head of a token."""
    backend = interpret("sm_90a")
    norm, table = torch.rand(64), torch.rand(4, 64)
    backend.qk_norm_rope(
        torch.randn(1, 4, 3, 16, 64).to(BF16), norm, norm, norm, norm, 1e-5, table, table
    )
    assert backend.library.launches[0].total / (2 * 4 * 16) <= 60
