"""The operators of a quantised network, registered with torch under `quantvggt`, and their checked
wrappers.

Every operator has one schema, one fake kernel, and one definition in plain torch
(`kernels.reference`) that runs on any device. Native kernels register themselves for a device
(`kernels.cpu`, `kernels.cuda`) and take precedence there. All of them read the stored form of a
weight, so that a layer holds a single copy of it:

    weight        uint8 [N, K / 2] (4 bits, low nibble = even k) or int8 [N, K] (8 bits)
    weight_scale  float32 [N]

The wrappers below check their arguments once and name what is wrong; operators behind them do not
check again.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernels import reference
from kernels.arguments import (
    FLOATS,
    check_bits,
    check_float,
    check_rows,
    check_tensor,
    check_weight,
    mismatch,
)
from kernels.formats import BYTE_BITS, FLOAT_ACTIVATIONS, ROUNDED_BITS, STORED_BITS
from kernels.winograd import CHANNELS, PRODUCTS, tiles_across

NORM_EPS = 1e-5

_PROLOGUE = (
    "Tensor? norm_weight, Tensor? norm_bias, float norm_eps, bool gelu, "
    "Tensor? signs, Tensor? smoothing, Tensor? clip"
)
SCHEMAS = {
    "quantize_rows": f"(Tensor x, {_PROLOGUE}, int bits) -> (Tensor, Tensor)",
    "integer_matmul": "(Tensor codes, Tensor weight, int activation_bits, int weight_bits) -> "
    "Tensor",
    "linear": (
        "(Tensor x, Tensor weight, Tensor weight_scale, Tensor? bias, int activation_bits, int "
        "weight_bits, "
        f"{_PROLOGUE}, Tensor? layer_scale, Tensor? residual, ScalarType? dtype) -> Tensor"
    ),
    "qk_norm_rope": (
        "(Tensor qkv, Tensor? q_weight, Tensor? q_bias, Tensor? k_weight, Tensor? k_bias, float "
        "norm_eps, "
        "Tensor? cos, Tensor? sin) -> (Tensor, Tensor)"
    ),
    "norm_rope": (
        "(Tensor x, Tensor? weight, Tensor? bias, float norm_eps, Tensor? cos, Tensor? sin) -> "
        "Tensor"
    ),
    "int8_attention": "(Tensor q, Tensor k, Tensor v) -> Tensor",
    "pack_keys_values": "(Tensor k, Tensor v) -> Tensor",
    "packed_attention": "(Tensor q, Tensor packed, int keys) -> Tensor",
    "tile_factors": "(Tensor map, int first, int rows) -> Tensor",
    "tile_outputs": "(Tensor(a!) map, Tensor products, Tensor? bias, int first) -> ()",
}

LIBRARY = torch.library.Library("quantvggt", "DEF")
for _name, _schema in SCHEMAS.items():
    LIBRARY.define(_name + _schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(_name, getattr(reference, _name), "CompositeExplicitAutograd")


def quantize_rows(
    x: Tensor,
    *,
    bits: int,
    norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None,
    norm_eps: float = NORM_EPS,
    gelu: bool = False,
    signs: Tensor | None = None,
    smoothing: Tensor | None = None,
    clip: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Codes int8 `[..., K]` and scales float32 `[..., 1]` of tokens `x` `[..., K]`.

    In this order: LayerNorm if `norm_weight` is given, exact GELU if `gelu`, rotation by `signs`,
    division by `smoothing`, one scale per token (`kernels.reference.quantize_activation`). Raises
    ValueError.
    """
    check_bits("quantize_rows", "bits", bits, ROUNDED_BITS)
    features = x.shape[-1] if x.dim() else 1
    check_rows("quantize_rows", x, features, norm_weight, norm_bias, signs, smoothing, clip)
    flat = x.reshape(-1, features)
    codes, scale = torch.ops.quantvggt.quantize_rows(
        flat, norm_weight, norm_bias, norm_eps, gelu, signs, smoothing, clip, bits
    )
    return codes.view(x.shape), scale.view(*x.shape[:-1], 1)


def integer_matmul(
    codes: Tensor, weight: Tensor, *, activation_bits: int, weight_bits: int
) -> Tensor:
    """Exact int32 accumulators `[M, N]` of activation codes int8 `[M, K]` and a stored weight.
    Raises ValueError."""
    op = "integer_matmul"
    check_bits(op, "activation_bits", activation_bits, ROUNDED_BITS)
    check_bits(op, "weight_bits", weight_bits, STORED_BITS)
    check_tensor(op, "codes", codes, torch.int8, (None, None), codes.device)
    check_weight(op, weight, codes.shape[-1], weight_bits, codes.device)
    result: Tensor = torch.ops.quantvggt.integer_matmul(codes, weight, activation_bits, weight_bits)
    return result


def linear(
    x: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None = None,
    *,
    activation_bits: int,
    weight_bits: int,
    norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None,
    norm_eps: float = NORM_EPS,
    gelu: bool = False,
    gated: bool = False,
    signs: Tensor | None = None,
    smoothing: Tensor | None = None,
    clip: Tensor | None = None,
    layer_scale: Tensor | None = None,
    residual: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A quantised linear layer with what stands around it in a transformer block: `[..., K]` to
    `[..., N]`.

    `residual + layer_scale * (quantised(gelu(norm(x))) W^T + bias)` in `dtype`, by default that of
    `x`; every part but the product is optional. The part before the product is that of
    `quantize_rows`; with `gated`, `x` is (a | b) `[..., 2K]`, and what is quantised is `silu(a) *
    b`, without norm or GELU. `layer_scale` is `[N]`, `residual` `[..., N]` in the dtype of the
    result.
    `activation_bits` 16 leaves the activations in float; `weight_bits` are those that storage has
    for a code. Raises ValueError.
    """
    op = "linear"
    check_bits(op, "activation_bits", activation_bits, (*ROUNDED_BITS, FLOAT_ACTIVATIONS))
    check_bits(op, "weight_bits", weight_bits, STORED_BITS)
    if weight.dim() != 2:
        raise mismatch(op, "weight", weight, "two dimensions")
    features = weight.shape[1] * (BYTE_BITS // weight_bits)
    check_rows(op, x, features, norm_weight, norm_bias, signs, smoothing, clip, gated)
    if gated and (gelu or norm_weight is not None):
        raise ValueError(f"{op}: gated tokens go through neither LayerNorm nor GELU")
    check_weight(op, weight, features, weight_bits, x.device)
    n = weight.shape[0]
    check_tensor(op, "weight_scale", weight_scale, torch.float32, (n,), x.device)
    check_tensor(op, "bias", bias, torch.float32, (n,), x.device)
    check_tensor(op, "layer_scale", layer_scale, torch.float32, (n,), x.device)
    dtype = x.dtype if dtype is None else dtype
    if dtype not in FLOATS:
        raise ValueError(f"{op}: dtype is {dtype}; expected float32, float16 or bfloat16")
    check_tensor(op, "residual", residual, dtype, (*x.shape[:-1], n), x.device)
    y: Tensor = torch.ops.quantvggt.linear(
        x.reshape(-1, x.shape[-1]),
        weight,
        weight_scale,
        bias,
        activation_bits,
        weight_bits,
        norm_weight,
        norm_bias,
        norm_eps,
        gelu,
        signs,
        smoothing,
        clip,
        layer_scale,
        None if residual is None else residual.reshape(-1, n),
        dtype,
    )
    return y.view(*x.shape[:-1], n)


def qk_norm_rope(
    qkv: Tensor,
    *,
    q_weight: Tensor | None = None,
    q_bias: Tensor | None = None,
    k_weight: Tensor | None = None,
    k_bias: Tensor | None = None,
    norm_eps: float = NORM_EPS,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Queries and keys `[B, heads, T, D]` of `qkv` `[B, T, 3, heads, D]`: LayerNorm over D, then
    rotary positions.

    Norm parameters are `[D]`; `cos` and `sin` are `[P, D]`, for the layout of `model.network.rope`,
    and begin anew after P tokens, of which T is a multiple. Raises ValueError.
    """
    op = "qk_norm_rope"
    check_float(op, "qkv", qkv, (None, None, 3, None, None))
    for name, value in (
        ("q_weight", q_weight),
        ("q_bias", q_bias),
        ("k_weight", k_weight),
        ("k_bias", k_bias),
    ):
        check_tensor(op, name, value, torch.float32, (qkv.shape[-1],), qkv.device)
    _check_positions(op, qkv, cos, sin)
    q, k = torch.ops.quantvggt.qk_norm_rope(
        qkv, q_weight, q_bias, k_weight, k_bias, norm_eps, cos, sin
    )
    return q, k


def norm_rope(
    x: Tensor,
    *,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    norm_eps: float = NORM_EPS,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
) -> Tensor:
    """The same for queries or keys alone: `[B, heads, T, D]` of `x` `[B, T, heads, D]`, whose
    tokens may lie apart. Raises ValueError."""
    op = "norm_rope"
    if x.dtype not in FLOATS or x.dim() != 4 or not x[:1, :1].is_contiguous():
        raise mismatch(op, "x", x, "a float [B, T, heads, D] with contiguous heads")
    if len(x) > 1 and x.stride(0) != x.shape[1] * x.stride(1):
        raise mismatch(op, "x", x, "scenes that lie as far apart as their tokens are long")
    for name, value in (("weight", weight), ("bias", bias)):
        check_tensor(op, name, value, torch.float32, (x.shape[-1],), x.device)
    _check_positions(op, x, cos, sin)
    y: Tensor = torch.ops.quantvggt.norm_rope(x, weight, bias, norm_eps, cos, sin)
    return y


def _check_positions(op: str, x: Tensor, cos: Tensor | None, sin: Tensor | None) -> None:
    tokens, width = x.shape[1], x.shape[-1]
    for name, value in (("cos", cos), ("sin", sin)):
        check_tensor(op, name, value, torch.float32, (None, width), x.device)
    if (cos is None) != (sin is None) or (cos is not None and width % 4):
        raise ValueError(
            f"{op}: expected cos and sin together, and a head width that is a multiple of 4; got "
            f"{width}"
        )
    if cos is not None and sin is not None and (not 0 < len(cos) == len(sin) or tokens % len(cos)):
        raise ValueError(
            f"{op}: cos and sin have {len(cos)} and {len(sin)} positions; expected as many of both "
            f"as go into {tokens} tokens"
        )


def int8_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention on 8-bit codes as `kernels.reference.int8_attention` defines it: three `[B,
    heads, T, D]`.

    Returns `[B, T, heads, D]` in the dtype of `q`. Strided tensors are welcome if D is contiguous.
    Raises ValueError.
    """
    op = "int8_attention"
    _check_heads(op, q=q, k=k, v=v)
    _check_like(op, "k", k, q, (*q.shape[:2], k.shape[2], q.shape[3]))
    _check_like(op, "v", v, q, tuple(k.shape))
    mixed: Tensor = torch.ops.quantvggt.int8_attention(q, k, v)
    return mixed


def pack_keys_values(k: Tensor, v: Tensor) -> Tensor:
    """What `packed_attention` takes, uint8 `[B, heads, bytes]`, of `k` and `v` `[B, heads, T, D]`.

    The kernels that run decide how it lies; nobody else reads it. Raises ValueError.
    """
    op = "pack_keys_values"
    _check_heads(op, k=k, v=v)
    _check_like(op, "v", v, k, tuple(k.shape))
    packed: Tensor = torch.ops.quantvggt.pack_keys_values(k, v)
    return packed


def packed_attention(q: Tensor, packed: Tensor, keys: int) -> Tensor:
    """`int8_attention` of queries `[B, heads, T, D]` to as many `keys` as were packed, bit for bit,
    however many queries there are at a time. Raises ValueError."""
    op = "packed_attention"
    _check_heads(op, q=q)
    check_tensor(op, "packed", packed, torch.uint8, (*q.shape[:2], None), q.device)
    if keys < 1:
        raise ValueError(f"{op}: keys is {keys}; expected at least 1")
    mixed: Tensor = torch.ops.quantvggt.packed_attention(q, packed, keys)
    return mixed


def _check_heads(op: str, **values: Tensor) -> None:
    for name, value in values.items():
        if (
            value.dtype not in FLOATS
            or value.dim() != 4
            or value.stride(-1) != 1
            or 0 in value.shape
        ):
            raise mismatch(op, name, value, "a float [B, heads, T, D] with contiguous D")
        if value.shape[3] > 128:
            raise ValueError(f"{op}: heads are {value.shape[3]} wide; expected at most 128")


def _check_like(op: str, name: str, value: Tensor, other: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(value.shape) != shape or value.dtype != other.dtype or value.device != other.device:
        raise mismatch(op, name, value, f"{other.dtype} {list(shape)} on {other.device}")


def tile_factors(map: Tensor, first: int, rows: int) -> Tensor:
    """Factors float32 `[36, rows * tiles across, K]` of the products of a 3x3 convolution.

    `map` float32 `[H, W, K]`, K a multiple of 16, with a margin of one zero, is covered by tiles of
    4 x 4 outputs; wanted are `rows` rows of them from `first` on. Raises ValueError.
    """
    _check_map("tile_factors", map)
    _check_strip("tile_factors", map, first, rows)
    factors: Tensor = torch.ops.quantvggt.tile_factors(map, first, rows)
    return factors


def tile_outputs(map: Tensor, products: Tensor, bias: Tensor | None, first: int) -> None:
    """Writes what the products `[36, rows * tiles across, L]` of some rows of tiles amount to, and
    `bias` `[L]`, into `map` float32 `[H, W, L]`, from the row `first` of tiles on. Raises
    ValueError."""
    op = "tile_outputs"
    _check_map(op, map)
    shape = (PRODUCTS, None, map.shape[-1])
    check_tensor(op, "products", products, torch.float32, shape, map.device)
    _check_strip(op, map, first, products.shape[1] // tiles_across(map.shape[1]))
    check_tensor(op, "bias", bias, torch.float32, map.shape[-1:], map.device)
    if products.shape[1] % tiles_across(map.shape[1]):
        raise mismatch(op, "products", products, "whole rows of tiles of the map")
    torch.ops.quantvggt.tile_outputs(map, products, bias, first)


def _check_map(op: str, map: Tensor) -> None:
    check_tensor(op, "map", map, torch.float32, (None, None, None), map.device)
    if 0 in map.shape or map.shape[-1] % CHANNELS:
        raise mismatch(op, "map", map, f"pixels with a multiple of {CHANNELS} channels")


def _check_strip(op: str, map: Tensor, first: int, rows: int) -> None:
    down = tiles_across(map.shape[0])
    if not 0 <= first <= first + rows <= down:
        raise ValueError(
            f"{op}: rows {first} to {first + rows} of tiles; the map has {down} rows of tiles"
        )


def _fake_quantize_rows(
    x: Tensor,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    norm_eps: float,
    gelu: bool,
    signs: Tensor | None,
    smoothing: Tensor | None,
    clip: Tensor | None,
    bits: int,
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape, dtype=torch.int8), x.new_empty((x.shape[0], 1), dtype=torch.float32)


def _fake_integer_matmul(
    codes: Tensor, weight: Tensor, activation_bits: int, weight_bits: int
) -> Tensor:
    return codes.new_empty((codes.shape[0], weight.shape[0]), dtype=torch.int32)


def _fake_linear(x: Tensor, weight: Tensor, *rest: object) -> Tensor:
    dtype = rest[-1]
    return x.new_empty(
        (x.shape[0], weight.shape[0]), dtype=dtype if isinstance(dtype, torch.dtype) else x.dtype
    )


def _fake_qk_norm_rope(qkv: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    batch, tokens, _three, heads, width = qkv.shape
    return qkv.new_empty((batch, heads, tokens, width)), qkv.new_empty(
        (batch, heads, tokens, width)
    )


def _fake_norm_rope(x: Tensor, *_: object) -> Tensor:
    batch, tokens, heads, width = x.shape
    return x.new_empty((batch, heads, tokens, width))


def _fake_attention(q: Tensor, *_: object) -> Tensor:
    return q.new_empty((q.shape[0], q.shape[2], q.shape[1], q.shape[3]))


def _fake_tile_factors(map: Tensor, first: int, rows: int) -> Tensor:
    return map.new_empty((PRODUCTS, rows * tiles_across(map.shape[1]), map.shape[2]))


def _fake_pack_keys_values(k: Tensor, v: Tensor) -> Tensor:
    size = torch.library.get_ctx().new_dynamic_size()  # the kernels' own
    return k.new_empty((*k.shape[:2], size), dtype=torch.uint8)


_FAKES: dict[str, Callable[..., object]] = {
    "quantize_rows": _fake_quantize_rows,
    "integer_matmul": _fake_integer_matmul,
    "linear": _fake_linear,
    "qk_norm_rope": _fake_qk_norm_rope,
    "norm_rope": _fake_norm_rope,
    "int8_attention": _fake_attention,
    "pack_keys_values": _fake_pack_keys_values,
    "packed_attention": _fake_attention,
    "tile_factors": _fake_tile_factors,
    "tile_outputs": lambda *_: None,
}
for _name, _fake in _FAKES.items():
    torch.library.register_fake(f"quantvggt::{_name}", _fake, lib=LIBRARY)
