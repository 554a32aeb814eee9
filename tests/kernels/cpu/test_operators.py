"""Every instruction set against the definition in plain torch: codes and accumulators bit for
bit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import ops, reference
from kernels.arguments import LARGEST_FEATURES

SCHEMES = [(4, 4), (8, 4), (8, 8)]  # activation bits, weight bits
LAYERS = {
    "qkv": (1024, 3072),
    "proj": (1024, 1024),
    "fc1": (1024, 4096),
    "fc2": (4096, 1024),
    "camera_fc1": (2048, 8192),
    "demo_qkv": (128, 384),
    "demo_fc2": (512, 128),
    "dinov2_vits14_qkv": (384, 1152),
    "ragged": (1500, 33),
    "smallest": (2, 1),
}
WIDTHS = [2, 4, 16, 48, 96, 128, 160, 384, 512, 640, 1024, 1536, 2048, 4096]

pytestmark = pytest.mark.usefixtures("instruction_set")


def _codes(shape: tuple[int, ...], bits: int) -> Tensor:
    top = reference.largest_code(bits)
    return torch.randint(-top - 1, top + 1, shape).to(torch.int8)


def _stored(codes: Tensor, bits: int) -> Tensor:
    return reference.pack_int4(codes) if bits == 4 else codes


def _assert_exact(
    activation: Tensor, weight: Tensor, activation_bits: int, weight_bits: int
) -> None:
    stored = _stored(weight, weight_bits)
    got = ops.integer_matmul(
        activation, stored, activation_bits=activation_bits, weight_bits=weight_bits
    )
    assert torch.equal(
        got, reference.integer_matmul(activation, weight, activation_bits, weight_bits)
    )


@pytest.mark.parametrize(("activation_bits", "weight_bits"), SCHEMES)
@pytest.mark.parametrize("layer", LAYERS)
def test_accumulators_of_every_layer_are_exact(
    layer: str, activation_bits: int, weight_bits: int
) -> None:
    torch.manual_seed(0)
    features_in, features_out = LAYERS[layer]
    for rows in (1, 4, 37):
        activation, weight = (
            _codes((rows, features_in), activation_bits),
            _codes((features_out, features_in), weight_bits),
        )
        _assert_exact(activation, weight, activation_bits, weight_bits)


@pytest.mark.parametrize(("activation_bits", "weight_bits"), SCHEMES)
@pytest.mark.parametrize("extremes", [(-1, -1), (-1, 1), (1, -1), (1, 1)])
def test_accumulators_of_the_largest_codes_do_not_overflow(
    extremes: tuple[int, int], activation_bits: int, weight_bits: int
) -> None:
    """-1 stands for the lowest code, 1 for the highest; the deepest product that the operators
    accept."""
    depth = LARGEST_FEATURES
    operands = []
    for sign, bits in zip(extremes, (activation_bits, weight_bits), strict=True):
        top = reference.largest_code(bits)
        operands.append(torch.full((3, depth), top if sign > 0 else -top - 1, dtype=torch.int8))
    _assert_exact(*operands, activation_bits, weight_bits)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.integers(1, 70),
    columns=st.integers(1, 100),
    pairs=st.integers(1, 200),
    scheme=st.sampled_from(SCHEMES),
    seed=st.integers(0, 2**20),
)
def test_accumulators_of_any_shape_are_exact(
    rows: int, columns: int, pairs: int, scheme: tuple[int, int], seed: int
) -> None:
    torch.manual_seed(seed)
    _assert_exact(
        _codes((rows, 2 * pairs), scheme[0]), _codes((columns, 2 * pairs), scheme[1]), *scheme
    )


def _transforms(width: int) -> dict[str, Any]:
    signs = (2 * torch.randint(0, 2, (width,)) - 1).to(torch.int8)
    return {
        "signs": signs,
        "smoothing": torch.rand(width) * 4 + 0.1,
        "clip": torch.tensor([0.9, 0.7]),
    }


def _defined(x: Tensor, bits: int, **parts: Any) -> tuple[Tensor, Tensor]:
    names = ("norm_weight", "norm_bias", "norm_eps", "gelu", "signs", "smoothing", "clip")
    defaults = {"norm_eps": ops.NORM_EPS, "gelu": False}
    return reference.quantize_rows(
        x, *(parts.get(name, defaults.get(name)) for name in names), bits
    )


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("width", WIDTHS)
def test_codes_of_rotated_and_smoothed_tokens_are_exact(width: int, bits: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(19, width) * torch.rand(width) * 10
    x[3] = 0
    parts = _transforms(width)
    for names in (
        (),
        ("signs",),
        ("signs", "smoothing"),
        ("signs", "smoothing", "clip"),
        ("smoothing",),
    ):
        chosen = {name: parts[name] for name in names}
        codes, scale = ops.quantize_rows(x, bits=bits, **chosen)
        expected_codes, expected_scale = _defined(x, bits, **chosen)
        assert torch.equal(codes, expected_codes), names
        assert torch.equal(scale, expected_scale), names


@pytest.mark.parametrize("transformed", [(), ("smoothing",), ("signs", "smoothing")])
@pytest.mark.parametrize("magnitude", [1e-43, 1e-40, 1e-37, 1e-30, 1e-20, 1e20, 1e36])
@pytest.mark.parametrize("width", [96, 100, 256, 512])
def test_codes_of_tokens_of_any_magnitude_are_exact(
    width: int, magnitude: float, transformed: tuple[str, ...]
) -> None:
    torch.manual_seed(0)
    if width == 100:
        transformed = tuple(name for name in transformed if name != "signs")
    x = torch.rand(5, width) * magnitude
    parts = {name: value for name, value in _transforms(width).items() if name in transformed}
    codes, scale = ops.quantize_rows(x, bits=8, **parts)
    expected_codes, expected_scale = _defined(x, 8, **parts)
    assert torch.equal(codes, expected_codes)
    assert torch.equal(scale, expected_scale)


def test_values_that_are_not_finite_spoil_their_own_token_only() -> None:
    x = torch.randn(4, 96)
    x[1, 5], x[2, 7] = float("nan"), float("inf")
    layer = _layer(96, 40, 4)
    y = ops.linear(x, **layer, activation_bits=4)
    alone = ops.linear(x[[0, 3]], **layer, activation_bits=4)
    assert torch.equal(y[[0, 3]], alone)


def test_values_on_a_rounding_edge_go_to_the_even_code() -> None:
    x = torch.arange(-254, 255, dtype=torch.float32)[None] / 2  # halves, with scale 1
    codes, scale = ops.quantize_rows(x, bits=8)
    assert scale.item() == 1.0
    assert torch.equal(codes[0], x[0].round().to(torch.int8))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("width", [128, 100, 1024, 4096])
def test_codes_after_a_norm_differ_only_at_ties(width: int, bits: int) -> None:
    """The order of LayerNorm's sums and GELU's polynomial are an implementation's own, so a value
    within their error of a rounding edge may fall on either side. In a thousand codes at most one
    does, and by one step."""
    torch.manual_seed(0)
    x = torch.randn(64, width) * 3
    parts: dict[str, Any] = {
        "norm_weight": torch.rand(width) + 0.5,
        "norm_bias": torch.randn(width),
        "gelu": True,
    }
    if width != 100:
        parts |= _transforms(width)
    codes, scale = ops.quantize_rows(x, bits=bits, **parts)
    expected, expected_scale = _defined(x, bits, **parts)
    torch.testing.assert_close(scale, expected_scale, rtol=2e-6, atol=0)
    differs = codes != expected
    assert differs.float().mean() <= 1e-3
    norm = F.layer_norm(
        x.double(),
        (width,),
        parts["norm_weight"].double(),
        parts["norm_bias"].double(),
        ops.NORM_EPS,
    )
    exact = F.gelu(norm)
    if width != 100:
        exact = reference.rotate(exact, parts["signs"]) / parts["smoothing"]
    steps = exact / expected_scale
    distance_to_edge = (steps - steps.floor() - 0.5).abs()
    assert (distance_to_edge[differs] < 1e-5 * 2**bits).all()
    assert ((codes.int() - expected.int()).abs() <= 1).all()


def _layer(features_in: int, features_out: int, bits: int) -> dict[str, Any]:
    return {
        "weight": _stored(_codes((features_out, features_in), bits), bits),
        "weight_scale": torch.rand(features_out),
        "bias": torch.randn(features_out),
        "weight_bits": bits,
        "layer_scale": torch.randn(features_out),
    }


@pytest.mark.parametrize(("activation_bits", "weight_bits"), SCHEMES)
@pytest.mark.parametrize("features_out", [1, 16, 31, 200])
def test_a_whole_layer_equals_its_definition(
    features_out: int, activation_bits: int, weight_bits: int
) -> None:
    torch.manual_seed(0)
    x, residual = torch.randn(2, 21, 96), torch.randn(2, 21, features_out)
    layer = _layer(96, features_out, weight_bits) | _transforms(96)
    got = ops.linear(x, **layer, activation_bits=activation_bits, residual=residual)
    codes, scale = _defined(
        x.flatten(0, 1), activation_bits, **_only(layer, "signs", "smoothing", "clip")
    )
    accumulators = reference.integer_matmul(codes, layer["weight"], activation_bits, weight_bits)
    y = reference.scale_accumulators(accumulators, scale, layer["weight_scale"], layer["bias"])
    assert torch.equal(got, residual + (y * layer["layer_scale"]).view(residual.shape))


def _only(parts: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: parts[name] for name in names}


def test_more_tokens_than_are_quantised_at_a_time_change_nothing() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 2**16)
    layer = _layer(2**16, 32, 8)
    whole = ops.linear(x, **layer, activation_bits=8)
    assert torch.equal(
        whole, torch.cat([ops.linear(part, **layer, activation_bits=8) for part in x.split(70)])
    )


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_nothing(threads: int) -> None:
    torch.manual_seed(0)
    x, layer = torch.randn(70, 128), _layer(128, 384, 4)
    q, k, v = (torch.randn(1, 3, 70, 32) for _ in range(3))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    y, mixed = ops.linear(x, **layer, activation_bits=4), ops.int8_attention(q, k, v)
    torch.set_num_threads(threads)
    try:
        assert torch.equal(ops.linear(x, **layer, activation_bits=4), y)
        assert torch.equal(ops.int8_attention(q, k, v), mixed)
    finally:
        torch.set_num_threads(before)


def test_calls_from_several_threads_do_not_disturb_each_other() -> None:
    torch.manual_seed(0)
    layer = _layer(128, 384, 4)
    inputs = [torch.randn(rows, 128) for rows in range(1, 60)]
    expected = [ops.linear(x, **layer, activation_bits=4) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            got = list(pool.map(lambda x: ops.linear(x, **layer, activation_bits=4), inputs))
            assert all(map(torch.equal, got, expected))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_and_rounded_once(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, layer = torch.randn(9, 128).to(dtype), _layer(128, 40, 4)
    assert torch.equal(
        ops.linear(x, **layer, activation_bits=4),
        ops.linear(x.float(), **layer, activation_bits=4).to(dtype),
    )


@pytest.mark.parametrize(
    ("tokens", "heads", "width"), [(1, 1, 4), (33, 3, 64), (50, 2, 12), (7, 1, 128)]
)
@pytest.mark.parametrize(
    ("norm", "rope"), [(True, True), (True, False), (False, True), (False, False)]
)
def test_queries_and_keys_equal_norm_and_rotation(
    tokens: int, heads: int, width: int, norm: bool, rope: bool
) -> None:
    torch.manual_seed(0)
    qkv = torch.randn(2, tokens, 3, heads, width)
    weights = [torch.randn(width) if norm else None for _ in range(4)]
    angles = [torch.randn(tokens, width) if rope else None for _ in range(2)]
    names = ("q_weight", "q_bias", "k_weight", "k_bias", "cos", "sin")
    got = ops.qk_norm_rope(qkv, **dict(zip(names, (*weights, *angles), strict=True)))
    expected = reference.qk_norm_rope(qkv, *weights, ops.NORM_EPS, *angles)
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rope", [True, False])
def test_keys_alone_are_those_of_queries_and_keys(rope: bool) -> None:
    torch.manual_seed(0)
    qkv = torch.randn(2, 30, 3, 2, 32)
    weight, bias = torch.randn(32), torch.randn(32)
    angles = [torch.randn(10, 32).repeat(3, 1) if rope else None for _ in range(2)]
    q, k = ops.qk_norm_rope(
        qkv,
        q_weight=weight,
        q_bias=bias,
        k_weight=bias,
        k_bias=weight,
        cos=angles[0],
        sin=angles[1],
    )
    cos, sin = (None if table is None else table[:10].clone() for table in angles)
    assert torch.equal(ops.norm_rope(qkv[:, :, 0], weight=weight, bias=bias, cos=cos, sin=sin), q)
    assert torch.equal(ops.norm_rope(qkv[:, :, 1], weight=bias, bias=weight, cos=cos, sin=sin), k)


@pytest.mark.parametrize(
    ("queries", "keys", "width"),
    [(1, 1, 4), (40, 64, 64), (33, 130, 32), (5, 65, 12), (64, 9, 128)],
)
def test_attention_equals_its_definition(queries: int, keys: int, width: int) -> None:
    """Up to the last bit of exponentials, which may move a weight's code by one of its 127
    steps."""
    torch.manual_seed(0)
    q = torch.randn(2, queries, 3, width).transpose(1, 2)  # strided, as a network gives them
    k, v = (torch.randn(2, keys, 3, width).transpose(1, 2) for _ in range(2))
    got, expected = ops.int8_attention(q, k, v), reference.int8_attention(q, k, v)
    assert got.shape == (2, queries, 3, width)
    assert (got - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize(
    ("queries", "keys", "width"), [(1, 1, 4), (200, 64, 64), (97, 130, 32), (70, 65, 12)]
)
def test_queries_a_few_at_a_time_mix_packed_values_to_the_same_bits(
    queries: int, keys: int, width: int
) -> None:
    torch.manual_seed(0)
    q = torch.randn(2, queries, 3, width).transpose(1, 2)
    k, v = (torch.randn(2, keys, 3, width).transpose(1, 2) for _ in range(2))
    whole = ops.int8_attention(q, k, v)
    packed = ops.pack_keys_values(k, v)
    for size in (1, 33, 64, queries):
        parts = [ops.packed_attention(some, packed, keys) for some in q.split(size, dim=2)]
        assert torch.equal(torch.cat(parts, dim=1), whole), size


@pytest.mark.parametrize("keys", [1, 63, 64, 65, 500])
def test_the_same_keys_and_values_are_packed_into_the_same_bytes(keys: int) -> None:
    torch.manual_seed(0)
    k, v = (torch.randn(2, keys, 3, 64).transpose(1, 2) for _ in range(2))
    packed = ops.pack_keys_values(k, v)
    assert torch.equal(packed, ops.pack_keys_values(k.contiguous(), v.contiguous()))
    # two codes a channel, of 64 keys at a time, and what scales take
    assert packed[0, 0].numel() < 64 * (1 + keys // 64) * 2 * 64 + 12 * (keys + 64) + 1024


@pytest.mark.parametrize("magnitude", [1e3, 1e6, 1e12])
def test_attention_of_scores_of_any_magnitude_is_its_definition(magnitude: float) -> None:
    """The highest score is far above the others, so that each query takes one key's value."""
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 3, 40, 32), torch.randn(1, 3, 130, 32), torch.randn(1, 3, 130, 32)
    got = ops.int8_attention(magnitude * q, magnitude * k, v)
    expected = reference.int8_attention(magnitude * q, magnitude * k, v)
    assert (got - expected).norm() < 1e-3 * expected.norm()


def test_attention_that_looks_at_one_key_returns_its_value() -> None:
    q = torch.eye(64)[None, None] * 200
    v = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        ops.int8_attention(q, q, v)[0, :, 0], v[0, 0], atol=v.abs().max().item() / 127, rtol=0
    )


@pytest.mark.parametrize(("height", "width", "channels"), [(1, 1, 16), (9, 14, 48), (30, 41, 16)])
def test_a_convolution_by_tiles_is_the_definition(height: int, width: int, channels: int) -> None:
    torch.manual_seed(0)
    source, bias = torch.randn(height, width, channels), torch.randn(channels)
    down = -(-height // 4)
    for first in range(0, down, 2):
        rows = min(2, down - first)
        factors = ops.tile_factors(source, first, rows)
        assert torch.equal(factors, reference.tile_factors(source, first, rows))
        for added in (bias, None):
            mine, theirs = torch.zeros(2, height, width, channels)
            ops.tile_outputs(mine, factors, added, first)
            reference.tile_outputs(theirs, factors, added, first)
            assert torch.equal(mine, theirs)
