"""Every kernel against the definition, on a GPU where there is one and always in emulation."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from kernels import reference
from kernels.cuda.library import Layout
from kernels.cuda.tiles import TILES, Tile, tiles_of
from kernels.hadamard import hadamard_matrix

SCHEMES = [(4, 4), (8, 4), (8, 8)]  # bits of activations and weights
# tokens x depth x channels: ragged everywhere, less than one tile, more than one slice and one ring
# of slices
PRODUCTS = [(1, 32, 1), (37, 352, 75), (130, 160, 264), (16, 1024, 64)]
# demo model, VGGT-1B, its camera head, the hidden layer of an MLP
WIDTHS = [32, 128, 512, 1024, 2048, 4096]


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Fresh memory is full of NaN or of the largest integer: what a kernel leaves unwritten
    shows."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def _codes(shape: tuple[int, ...], bits: int) -> torch.Tensor:
    top = reference.largest_code(bits)
    return torch.randint(-top - 1, top + 1, shape, dtype=torch.int8)


def _stored(codes: torch.Tensor, bits: int) -> torch.Tensor:
    return reference.pack_int4(codes) if bits == 4 else codes


def _signs(width: int) -> torch.Tensor:
    return (2 * torch.randint(0, 2, (width,)) - 1).to(torch.int8)


_hadamard = functools.cache(hadamard_matrix)


def _accumulators(
    machine: Any, activation: torch.Tensor, weight: torch.Tensor, bits: tuple[int, int]
) -> torch.Tensor:
    on_device = machine(activation, _stored(weight, bits[1]))
    return machine.backend.integer_matmul(*on_device, *bits).cpu()


def _with_tile(machine: Any, tile: Tile) -> Any:
    if machine.device.type == "cuda" and tile not in machine.backend.tiles:
        pytest.skip(f"this GPU has no tile of {tile}")
    return dataclasses.replace(machine, backend=dataclasses.replace(machine.backend, tiles=(tile,)))


def test_fresh_memory_is_poisoned(machine: Any) -> None:
    assert torch.empty(3, device=machine.device).isnan().all()
    assert (torch.zeros(2).new_empty((3,), dtype=torch.int32) == torch.iinfo(torch.int32).max).all()


@pytest.mark.parametrize("tile", TILES, ids=str)
@pytest.mark.parametrize("bits", SCHEMES, ids=lambda bits: f"a{bits[0]}w{bits[1]}")
@pytest.mark.parametrize(("tokens", "depth", "channels"), PRODUCTS)
def test_accumulators_are_the_definitions(
    machine: Any, tokens: int, depth: int, channels: int, bits: tuple[int, int], tile: Tile
) -> None:
    machine = _with_tile(machine, tile)
    activation, weight = _codes((tokens, depth), bits[0]), _codes((channels, depth), bits[1])
    expected = reference.integer_matmul(activation, weight, *bits)
    assert torch.equal(_accumulators(machine, activation, weight, bits), expected)


@pytest.mark.parametrize("bits", SCHEMES, ids=lambda bits: f"a{bits[0]}w{bits[1]}")
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_products_do_not_overflow(
    machine: Any, bits: tuple[int, int], sign: int
) -> None:
    depth = 2**16
    extremes = [-reference.largest_code(b) - 1 for b in bits]
    activation = torch.full((2, depth), extremes[0], dtype=torch.int8)
    weight = torch.full(
        (3, depth), extremes[1] if sign == 1 else -extremes[1] - 1, dtype=torch.int8
    )
    expected = depth * extremes[0] * int(weight[0, 0])
    assert (_accumulators(machine, activation, weight, bits) == expected).all()


@pytest.mark.parametrize(
    ("depth", "channels"),
    [(1024, 3072), (4096, 1024)],
    ids=["qkv of VGGT-1B", "fc2 of VGGT-1B"],
)
def test_layers_of_the_full_model_have_the_definitions_accumulators(
    machine: Any, depth: int, channels: int
) -> None:
    activation, weight = _codes((19, depth), 4), _codes((channels, depth), 4)
    expected = reference.integer_matmul(activation, weight, 4, 4)
    assert torch.equal(_accumulators(machine, activation, weight, (4, 4)), expected)


def test_random_shapes_and_codes_have_the_definitions_accumulators(machine: Any) -> None:
    generator = torch.Generator().manual_seed(7)
    for _ in range(12):
        tokens, groups, channels = (
            int(torch.randint(1, top, (), generator=generator)) for top in (90, 9, 90)
        )
        bits = SCHEMES[int(torch.randint(0, len(SCHEMES), (), generator=generator))]
        usable = tiles_of(machine.backend.target)
        tile = usable[int(torch.randint(0, len(usable), (), generator=generator))]
        forced = _with_tile(machine, tile)
        activation, weight = (
            _codes((tokens, 32 * groups), bits[0]),
            _codes((channels, 32 * groups), bits[1]),
        )
        expected = reference.integer_matmul(activation, weight, *bits)
        assert torch.equal(_accumulators(forced, activation, weight, bits), expected), (
            tokens,
            groups,
            channels,
            bits,
        )


def test_a_depth_without_a_kernel_has_the_definitions_accumulators(machine: Any) -> None:
    activation, weight = _codes((5, 40), 4), _codes((7, 40), 4)
    expected = reference.integer_matmul(activation, weight, 4, 4)
    assert torch.equal(_accumulators(machine, activation, weight, (4, 4)), expected)


def _prologue(
    width: int, *, norm: bool, gelu: bool, clip: bool = False, rotated: bool = True
) -> tuple[Any, ...]:
    return (
        torch.rand(width) + 0.5 if norm else None,
        torch.randn(width) if norm else None,
        1e-5,
        gelu,
        _signs(width) if rotated else None,
        torch.rand(width) + 0.5,
        torch.tensor([0.9, 0.8]) if clip else None,
    )


def _quantized(
    machine: Any, x: torch.Tensor, prologue: tuple[Any, ...], bits: int
) -> tuple[torch.Tensor, torch.Tensor]:
    moved = (machine(value)[0] if isinstance(value, torch.Tensor) else value for value in prologue)
    codes, scale = machine.backend.quantize_rows(*machine(x), *moved, bits)
    return codes.cpu(), scale.cpu()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("width", WIDTHS)
def test_codes_and_scales_of_rotated_tokens_are_the_definitions(
    machine: Any, width: int, bits: int, dtype: torch.dtype
) -> None:
    x = torch.randn(9, width).to(dtype)
    prologue = _prologue(width, norm=False, gelu=False, clip=True)
    codes, scale = _quantized(machine, x, prologue, bits)
    expected_codes, expected_scale = reference.quantize_rows(x, *prologue, bits)
    assert torch.equal(codes, expected_codes)
    assert torch.equal(scale, expected_scale)


@pytest.mark.parametrize("width", [96, 384, 672, 4064])
def test_widths_that_are_no_power_of_two_are_quantised_unrotated(machine: Any, width: int) -> None:
    x, prologue = torch.randn(3, width), _prologue(width, norm=False, gelu=False, rotated=False)
    for got, expected in zip(
        _quantized(machine, x, prologue, 8), reference.quantize_rows(x, *prologue, 8), strict=True
    ):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("width", [40, 384, 8192])
def test_a_width_without_a_kernel_is_quantised_by_the_definition(machine: Any, width: int) -> None:
    x, prologue = (
        torch.randn(2, width),
        _prologue(width, norm=False, gelu=False, rotated=width != 40),
    )
    codes, _ = _quantized(machine, x, prologue, 4)
    assert (codes - reference.quantize_rows(x, *prologue, 4)[0]).abs().max() <= (
        0 if machine.device.type == "cpu" else 1
    )


@pytest.mark.parametrize(("norm", "gelu"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("width", [128, 1024, 4096])
def test_codes_after_layer_norm_and_gelu_are_the_nearest_of_the_exact_value(
    machine: Any, width: int, norm: bool, gelu: bool
) -> None:
    x, prologue = torch.randn(6, width) * 3 + 1, _prologue(width, norm=norm, gelu=gelu)
    codes, scale = _quantized(machine, x, prologue, 8)
    weight, bias, eps, _, signs, smoothing, _ = prologue
    exact = x.double()
    if norm:
        exact = F.layer_norm(exact, (width,), weight.double(), bias.double(), eps)
    if gelu:
        exact = F.gelu(exact)
    exact = (exact * signs) @ _hadamard(width) / smoothing
    expected_scale = exact.abs().amax(dim=1, keepdim=True) / 127
    torch.testing.assert_close(scale.double(), expected_scale, rtol=2e-6, atol=0)
    assert (codes - exact / expected_scale).abs().max() <= 0.5 + 127 * 4e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", [96, 128, 4096])
def test_codes_of_gated_tokens_are_the_nearest_of_the_exact_value(
    machine: Any, width: int, dtype: torch.dtype
) -> None:
    # from gates that are shut, where the exponential overflows, to ones that are open
    gate, value = 20 * torch.randn(6, width) ** 3, torch.randn(6, width)
    x = torch.cat((gate, value), dim=-1).to(dtype)
    signs, smoothing = _signs(width) if width != 96 else None, torch.rand(width) + 0.5
    prologue = (None, None, 1e-5, False, *machine(signs, smoothing), None, 8)
    (tokens,) = machine(x)
    codes, scale = machine.backend.quantize(tokens, prologue, Layout.BYTES, gated=True)
    gate, value = x.double().chunk(2, dim=-1)
    exact = F.silu(gate) * value
    if signs is not None:
        exact = (exact * signs) @ _hadamard(width)
    exact = exact / smoothing
    expected_scale = exact.abs().amax(dim=1, keepdim=True) / 127
    torch.testing.assert_close(scale.cpu().double(), expected_scale, rtol=2e-6, atol=0)
    assert (codes.cpu() - exact / expected_scale).abs().max() <= 0.5 + 127 * 4e-6


@pytest.mark.parametrize("bits", [4, 8])
def test_quotients_beside_a_tie_round_as_division_does(machine: Any, bits: int) -> None:
    """A code is the nearest to a rounded quotient, which may lie on a tie that the exact one lies
    beside."""
    top = reference.largest_code(bits)
    scale = torch.rand(500, 1) + 0.5
    ties = scale * (torch.randint(-top, top, (500, 31)) + 0.5)
    beside = torch.nextafter(ties, ties * torch.randint(0, 3, ties.shape))
    x = torch.cat((scale * top, beside), dim=1)
    prologue = (None, None, 1e-5, False, None, None, None)
    codes, scales = _quantized(machine, x, prologue, bits)
    expected = reference.quantize_rows(x, *prologue, bits)
    assert torch.equal(scales, expected[1])
    assert torch.equal(codes, expected[0])


@pytest.mark.parametrize(
    ("row", "code", "scale"),
    [
        ([0.0] * 32, 0, 1.0),
        ([-14.0] * 32, -7, 2.0),
        ([float("inf")] * 32, -8, float("inf")),
        ([-7e-35] * 32, -7, 1e-35),
        ([7e35] * 32, 7, 1e35),
    ],
    ids=["an all-zero token", "one value everywhere", "infinity", "tiny", "huge"],
)
def test_extreme_tokens(machine: Any, row: list[float], code: int, scale: float) -> None:
    prologue = (None, None, 1e-5, False, None, None, None)
    codes, scales = _quantized(machine, torch.tensor([row]), prologue, 4)
    assert (codes == code).all()
    assert float(scales) == pytest.approx(scale, rel=1e-6)


def _linear_arguments(
    bits: tuple[int, int], tokens: int, depth: int, channels: int, dtype: torch.dtype
) -> list[Any]:
    return [
        torch.randn(tokens, depth).to(dtype),
        _stored(_codes((channels, depth), bits[1]), bits[1]),
        torch.rand(channels) * 0.1,
        torch.randn(channels),
        *bits,
        *_prologue(depth, norm=False, gelu=False),
        torch.randn(channels),
        torch.randn(tokens, channels).to(dtype),
    ]


def _linear(machine: Any, arguments: list[Any]) -> torch.Tensor:
    moved = (machine(value)[0] if isinstance(value, torch.Tensor) else value for value in arguments)
    return machine.backend.linear(*moved).cpu()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bits", SCHEMES, ids=lambda bits: f"a{bits[0]}w{bits[1]}")
@pytest.mark.parametrize("channels", [72, 73])
def test_a_layer_with_all_its_surroundings_is_the_definition_bit_for_bit(
    machine: Any, channels: int, bits: tuple[int, int], dtype: torch.dtype
) -> None:
    arguments = _linear_arguments(bits, 21, 128, channels, dtype)
    assert torch.equal(_linear(machine, arguments), reference.linear(*arguments))


@pytest.mark.parametrize(
    ("taken", "given"), [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)], ids=str
)
def test_the_output_may_be_of_another_type_than_the_tokens(
    machine: Any, taken: torch.dtype, given: torch.dtype
) -> None:
    arguments = _linear_arguments((4, 4), 5, 64, 16, taken)
    arguments[-1] = arguments[-1].to(given)
    output = _linear(machine, [*arguments, given])
    assert output.dtype == given
    assert torch.equal(output, reference.linear(*arguments, given))


@pytest.mark.parametrize("missing", [(), (3,), (-2,), (-1,), (3, -2, -1)], ids=str)
def test_each_part_of_the_epilogue_may_be_missing(machine: Any, missing: tuple[int, ...]) -> None:
    arguments = _linear_arguments((4, 4), 5, 64, 16, torch.float32)
    for position in missing:
        arguments[position] = None
    assert torch.equal(_linear(machine, arguments), reference.linear(*arguments))


@pytest.mark.parametrize("width", [128, 384])  # with a prologue of their own, and without one
def test_a_gated_layer_is_the_layer_of_the_gated_tokens(
    machine: Any, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = _linear_arguments((8, 4), 21, width, 73, torch.float32)
    # gates so far open that silu changes nothing: no rounding differs
    expected = reference.linear(arguments[0] * 1024, *arguments[1:])
    arguments[0] = torch.cat((torch.full((21, width), 1024.0), arguments[0]), dim=1)
    if width == 128:
        monkeypatch.delattr(reference, "gated")  # plain torch has no part in it
    assert torch.equal(_linear(machine, arguments), expected)


def test_float_activations_compute_as_the_definition(machine: Any) -> None:
    arguments = _linear_arguments((4, 4), 5, 64, 16, torch.float32)
    arguments[4] = reference.FLOAT_ACTIVATIONS
    torch.testing.assert_close(_linear(machine, arguments), reference.linear(*arguments))


def test_no_token_gives_no_output(machine: Any) -> None:
    arguments = _linear_arguments((4, 4), 0, 64, 16, torch.float32)
    assert _linear(machine, arguments).shape == (0, 16)


def test_a_view_that_starts_anywhere_in_its_storage_is_taken(machine: Any) -> None:
    arguments = _linear_arguments((4, 4), 3, 64, 16, torch.float32)
    expected = reference.linear(*arguments)
    for position in (0, 1, 2, 3, -2, -1):
        whole = torch.cat((arguments[position].new_zeros(1), arguments[position].flatten()))
        arguments[position] = machine(whole)[0][1:].view(arguments[position].shape)
    assert torch.equal(_linear(machine, arguments), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("heads", "width"), [(2, 64), (4, 32), (1, 128), (3, 20)])
@pytest.mark.parametrize(("norm", "rope"), [(True, True), (True, False), (False, True)])
def test_queries_and_keys_are_normalised_and_turned_as_defined(
    machine: Any, norm: bool, rope: bool, heads: int, width: int, dtype: torch.dtype
) -> None:
    qkv = torch.randn(2, 5, 3, heads, width).to(dtype)
    norms = [torch.randn(width) if norm else None for _ in range(4)]
    tables = [torch.randn(5, width) if rope else None for _ in range(2)]
    got = machine.backend.qk_norm_rope(*machine(qkv, *norms), 1e-5, *machine(*tables))
    # of a half type: one rounding
    tolerance = 4e-6 if dtype == torch.float32 else torch.finfo(dtype).eps
    for ours, expected in zip(got, reference.qk_norm_rope(qkv, *norms, 1e-5, *tables), strict=True):
        torch.testing.assert_close(ours.cpu(), expected, rtol=tolerance, atol=tolerance)


def test_positions_begin_anew_where_their_table_ends(machine: Any) -> None:
    qkv, tables = torch.randn(1, 6, 3, 2, 64), [torch.randn(3, 64) for _ in range(2)]
    norms = [None] * 4
    got = machine.backend.qk_norm_rope(*machine(qkv), *norms, 1e-5, *machine(*tables))
    for ours, expected in zip(got, reference.qk_norm_rope(qkv, *norms, 1e-5, *tables), strict=True):
        torch.testing.assert_close(ours.cpu(), expected, rtol=4e-6, atol=4e-6)


def test_heads_norms_and_tables_may_start_anywhere_in_their_storage(machine: Any) -> None:
    given = [torch.randn(1, 6, 3, 2, 64), *torch.randn(4, 64), *torch.randn(2, 6, 64)]
    moved = [
        machine(torch.cat((tensor.new_zeros(1), tensor.flatten())))[0][1:].view(tensor.shape)
        for tensor in given
    ]
    got = machine.backend.qk_norm_rope(*moved[:5], 1e-5, *moved[5:])
    for ours, expected in zip(
        got, reference.qk_norm_rope(*given[:5], 1e-5, *given[5:]), strict=True
    ):
        torch.testing.assert_close(ours.cpu(), expected, rtol=4e-6, atol=4e-6)
