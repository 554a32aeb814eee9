from __future__ import annotations

from typing import Any

import pytest
import torch

from kernels import cpu, ops, reference

K, N = 64, 24


def _codes(shape: tuple[int, ...], bits: int) -> torch.Tensor:
    top = reference.largest_code(bits)
    return torch.randint(-top - 1, top + 1, shape, dtype=torch.int8)


def _prologue() -> dict[str, Any]:
    return {
        "norm_weight": torch.rand(K) + 0.5,
        "norm_bias": torch.randn(K),
        "gelu": True,
        "signs": (2 * torch.randint(0, 2, (K,)) - 1).to(torch.int8),
        "smoothing": torch.rand(K) + 0.5,
        "clip": torch.tensor([0.9, 0.8]),
    }


def _weight(bits: int) -> torch.Tensor:
    return reference.pack_int4(_codes((N, K), 4)) if bits == 4 else _codes((N, K), 8)


def _arguments(op: str) -> tuple[Any, ...]:
    torch.manual_seed(0)
    x, prologue = (
        torch.randn(5, K),
        (*list(_prologue().values())[:2], 1e-5, *list(_prologue().values())[2:]),
    )
    attention = tuple(torch.randn(1, 2, 9, 16) for _ in range(3))
    return {
        "quantize_rows": (x, *prologue, 4),
        "integer_matmul": (_codes((5, K), 8), _weight(4), 8, 4),
        "linear": (
            x,
            _weight(4),
            torch.rand(N),
            torch.randn(N),
            4,
            4,
            *prologue,
            torch.randn(N),
            torch.randn(5, N),
            x.dtype,
        ),
        "qk_norm_rope": (
            torch.randn(2, 7, 3, 2, 16),
            *(torch.randn(16) for _ in range(4)),
            1e-5,
            *(torch.randn(7, 16) for _ in range(2)),
        ),
        "norm_rope": (
            torch.randn(2, 14, 2, 16),
            *(torch.randn(16) for _ in range(2)),
            1e-5,
            *(torch.randn(7, 16) for _ in range(2)),
        ),
        "int8_attention": attention,
        "pack_keys_values": attention[1:],
        "packed_attention": (attention[0], ops.pack_keys_values(*attention[1:]), 9),
        "tile_factors": (torch.randn(9, 5, 16), 1, 2),
        "tile_outputs": (torch.randn(9, 5, 16), torch.randn(36, 4, 16), torch.randn(16), 1),
    }[op]


@pytest.mark.parametrize("op", ops.SCHEMAS)
def test_schema_fake_kernel_and_definition_agree(op: str) -> None:
    torch.library.opcheck(getattr(torch.ops.quantvggt, op).default, _arguments(op))


def _linear(**changes: Any) -> torch.Tensor:
    arguments = {
        "x": torch.randn(5, K),
        "weight": _weight(4),
        "weight_scale": torch.rand(N),
        "bias": torch.randn(N),
        "activation_bits": 4,
        "weight_bits": 4,
        "layer_scale": torch.randn(N),
        "residual": torch.randn(5, N),
        **_prologue(),
    }
    return ops.linear(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"x": torch.randn(5, K).double()},
            r"x is torch.float64 \[5, 64\] on cpu; expected contiguous float32",
        ),
        ({"x": torch.randn(K, 5).T}, r"x is torch.float32 \[5, 64\] on cpu, not contiguous"),
        ({"x": torch.randn(5, K + 2)}, r"x is .* \[5, 66\] on cpu; expected .* \[..., 64\]"),
        ({"x": torch.randn(5, K, device="meta")}, "norm_weight is .* on cpu; expected .* on meta"),
        ({"weight": _weight(8)}, r"x is .*; expected .* \[..., 128\]"),
        ({"weight": torch.zeros(N, K // 2)}, "weight is torch.float32"),
        ({"weight_scale": torch.rand(N + 1)}, r"weight_scale is .* \[25\]"),
        ({"bias": torch.randn(N).half()}, "bias is torch.float16"),
        ({"norm_bias": torch.randn(2 * K)[::2]}, "norm_bias is .* not contiguous"),
        ({"signs": torch.ones(K)}, "signs is torch.float32"),
        ({"residual": torch.randn(4, N)}, r"residual is .*; expected .* \[5, 24\]"),
        ({"layer_scale": torch.randn(N, 1)}, "layer_scale is"),
        ({"activation_bits": 5}, "activation_bits is 5; expected one of 4, 8, 16"),
        ({"weight_bits": 3}, "weight_bits is 3; expected one of 4, 8"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_expected(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"linear: {message}"):
        _linear(**changes)


def test_a_layer_too_wide_for_its_accumulators_is_refused() -> None:
    with pytest.raises(ValueError, match="65538 input features; expected 1 to 65536"):
        ops.integer_matmul(
            torch.zeros(1, 65538, dtype=torch.int8),
            torch.zeros(1, 32769, dtype=torch.uint8),
            activation_bits=4,
            weight_bits=4,
        )


@pytest.mark.parametrize(("outputs", "features"), [(0, 8), (3, 0)])
def test_a_weight_of_nothing_is_refused(outputs: int, features: int) -> None:
    weight, codes = torch.zeros(outputs, features, dtype=torch.int8), torch.zeros(2, features)
    message = "at least one output channel|0 input features; expected 1 to"
    with pytest.raises(ValueError, match=message):
        ops.integer_matmul(codes.to(torch.int8), weight, activation_bits=8, weight_bits=8)
    with pytest.raises(ValueError, match=message):
        ops.linear(codes, weight, torch.ones(outputs), activation_bits=8, weight_bits=8)


def test_a_number_is_no_token() -> None:
    with pytest.raises(ValueError, match=r"quantize_rows: x is torch.float32 \[\]"):
        ops.quantize_rows(torch.tensor(1.0), bits=8)
    with pytest.raises(ValueError, match=r"linear: weight is .*; expected two dimensions"):
        _linear(x=torch.tensor(1.0), weight=torch.tensor(1, dtype=torch.uint8))


@pytest.mark.parametrize("shape", [(0, 4, 16), (4, 0, 16), (4, 4, 0), (4, 16)])
def test_a_map_of_nothing_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="tile_factors: map is"):
        ops.tile_factors(torch.zeros(shape), 0, 0)
    with pytest.raises(ValueError, match="tile_outputs: map is"):
        ops.tile_outputs(torch.zeros(shape), torch.zeros(36, 0, 16), None, 0)


def test_a_width_that_cannot_be_rotated_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="no Hadamard rotation of width 14"):
        ops.quantize_rows(torch.randn(1, 14), bits=4, signs=torch.ones(14, dtype=torch.int8))


def test_no_token_gives_no_output() -> None:
    assert _linear(x=torch.randn(0, K), residual=torch.randn(0, N)).shape == (0, N)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_output_has_the_inputs_dtype(dtype: torch.dtype) -> None:
    y = _linear(x=torch.randn(2, 3, K).to(dtype), residual=torch.randn(2, 3, N).to(dtype))
    assert (y.dtype, y.shape) == (dtype, (2, 3, N))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            ((1, 2, 9, 16), (1, 2, 9, 16), (1, 2, 8, 16)),
            r"v is .*; expected torch.float32 \[1, 2, 9, 16\]",
        ),
        (((1, 2, 9, 16), (1, 3, 9, 16), (1, 3, 9, 16)), "k is"),
        (((1, 2, 9, 256),) * 3, "heads are 256 wide; expected at most 128"),
        (((2, 9, 16),) * 3, "q is"),
    ],
)
def test_attention_names_a_wrong_argument(
    shapes: tuple[tuple[int, ...], ...], message: str
) -> None:
    with pytest.raises(ValueError, match=f"int8_attention: {message}"):
        ops.int8_attention(*(torch.randn(shape) for shape in shapes))


def test_what_was_packed_of_other_heads_is_refused() -> None:
    q = torch.randn(1, 2, 9, 16)
    packed = ops.pack_keys_values(q[:, :1], q[:, :1])
    with pytest.raises(
        ValueError, match=r"packed_attention: packed is .*; expected .*\[1, 2, any\]"
    ):
        ops.packed_attention(q, packed, 9)
    with pytest.raises(ValueError, match="keys is 0; expected at least 1"):
        ops.packed_attention(q[:, :1], packed, 0)


@pytest.mark.parametrize("kernels", ["auto", "reference"])
@pytest.mark.parametrize(("keys", "width"), [(900, 16), (9, 128)])
def test_what_was_packed_of_fewer_or_narrower_keys_is_refused(
    kernels: str, keys: int, width: int
) -> None:
    cpu.select(kernels)
    try:
        k = torch.randn(1, 2, 9, 16)
        packed = ops.pack_keys_values(k, k)
        message = (
            rf"packed has {packed.shape[2]} bytes a head; expected \d+, .* "
            f"for {keys} keys that are {width} wide"
        )
        with pytest.raises(ValueError, match=message):
            ops.packed_attention(torch.randn(1, 2, 3, width), packed, keys)
    finally:
        cpu.select()


def test_positions_that_do_not_go_into_the_tokens_are_refused() -> None:
    table = torch.ones(4, 8)
    with pytest.raises(
        ValueError, match="4 and 4 positions; expected as many of both as go into 6"
    ):
        ops.norm_rope(torch.randn(1, 6, 1, 8), cos=table, sin=table)
    with pytest.raises(ValueError, match="0 and 0 positions"):
        ops.norm_rope(torch.randn(1, 6, 1, 8), cos=table[:0], sin=table[:0])
    with pytest.raises(ValueError, match=r"norm_rope: x is .*; expected a float"):
        ops.norm_rope(torch.randn(1, 8, 1, 6).transpose(1, 3), cos=table, sin=table)


def test_cosines_without_sines_are_refused() -> None:
    with pytest.raises(ValueError, match="expected cos and sin together"):
        ops.qk_norm_rope(torch.randn(1, 2, 3, 1, 8), cos=torch.ones(2, 8))
