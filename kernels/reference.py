"""The integer arithmetic of a quantised linear layer, defined once in plain torch.

This is the fallback, the oracle of every native kernel, and what calibration simulates.
The contract for `y = x W^T + b`:

    x' = (x * r) H / d          rotation by random signs r and the normalised Hadamard matrix H,
                                then smoothing by d
    a  = clamp(round(x' / s_token))     per token, dynamic, symmetric; round half to even
    w  = clamp(round(W' / s_channel))   per output channel, symmetric, W' = (W * r) H * d
    y  = (a . w) * s_token * s_channel + b     with the exact int32 accumulator a . w

The operators of `kernels.ops` stand at the end; their shapes are described there.

How many bits codes have, and which codes that makes, is said in `kernels.formats`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.formats import (
    ATTENTION_BITS,
    BYTE_BITS,
    FLOAT_ACTIVATIONS,
    PACKED,
    PACKED_BITS,
    largest_code,
)
from kernels.hadamard import base_order, hadamard_matrix, hadamard_transform
from kernels.winograd import tile_factors as tile_factors
from kernels.winograd import tile_outputs as tile_outputs

_EXACT_FLOAT32 = 2**24  # every integer up to here is a float32
_SMALLEST_WEIGHT_EXTREME = 1e-5
_DEQUANTIZED_ROWS = 512  # of a weight at a time, where activations stay in float
KEYS_PER_BLOCK = 64  # that share one scale of their attention weights
LARGEST_PROBABILITY_CODE = largest_code(ATTENTION_BITS)


def _codes(values: Tensor, scale: Tensor, bits: int) -> Tensor:
    top = largest_code(bits)
    return (values / scale).round().clamp(-top - 1, top).to(torch.int8)


def rotate(x: Tensor, signs: Tensor) -> Tensor:
    """`x @ (diag(signs) H)` along the last axis; `signs` `[K]` are +1 or -1, H is orthonormal."""
    return hadamard_transform(x * signs.to(x.dtype))


def rotation_matrix(signs: Tensor) -> Tensor:
    """The orthonormal matrix `[K, K]` that `rotate` multiplies by, float32."""
    return (signs.double()[:, None] * hadamard_matrix(signs.numel())).float()


def rotation_signs(matrix: Tensor) -> Tensor:
    """The signs `[K]` (int8) of a matrix made by `rotation_matrix`: those of its first column."""
    return torch.sign(matrix[:, 0]).to(torch.int8)


def transform_activation(x: Tensor, signs: Tensor | None, smoothing: Tensor | None) -> Tensor:
    """Rotates, then divides by the channel scale; float32."""
    x = x.float()
    if signs is not None:
        x = rotate(x, signs)
    return x if smoothing is None else x / smoothing


def transform_weight(weight: Tensor, signs: Tensor | None, smoothing: Tensor | None) -> Tensor:
    """The counterpart for a weight `[N, K]`: rotates its rows, then multiplies by the channel
    scale; float32."""
    weight = weight.float()
    if signs is not None:
        weight = rotate(weight, signs)
    return weight if smoothing is None else weight * smoothing


def restore_weight(weight: Tensor, signs: Tensor | None, smoothing: Tensor | None) -> Tensor:
    """The weight `[N, K]` of which `transform_weight` makes this one; float32."""
    weight = weight.float()
    if smoothing is not None:
        weight = weight / smoothing
    if signs is None:
        return weight
    if base_order(len(signs)) == 1:  # then H is its own inverse
        return hadamard_transform(weight) * signs.to(weight.dtype)
    return weight @ rotation_matrix(signs.cpu()).to(weight.device).T


def quantize_activation(x: Tensor, bits: int, clip: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Codes `[..., K]` (int8) and scales `[..., 1]` (float32), one scale per token; an all-zero
    token gets scale 1.

    `clip` `[2]` multiplies the magnitudes of a token's minimum and maximum before the larger one is
    taken.
    """
    lowest, highest = x.amin(dim=-1, keepdim=True).abs(), x.amax(dim=-1, keepdim=True)
    if clip is not None:
        lowest, highest = lowest * clip[0], highest * clip[1]
    scale = torch.maximum(lowest, highest) / largest_code(bits)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return _codes(x, scale, bits), scale


def quantize_weight(weight: Tensor, bits: int, clip: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Codes `[N, K]` (int8) and scales `[N]` (float32), one scale per output channel.

    `clip` `[N, 2]` multiplies each row's minimum and maximum; values beyond are clamped first.
    """
    lowest, highest = weight.amin(dim=1, keepdim=True), weight.amax(dim=1, keepdim=True)
    if clip is not None:
        lowest, highest = lowest * clip[:, :1], highest * clip[:, 1:]
        weight = weight.clamp(lowest, highest)
        lowest, highest = weight.amin(dim=1, keepdim=True), weight.amax(dim=1, keepdim=True)
    extreme = torch.maximum(lowest.clamp(max=0).abs(), highest.clamp(min=0)).clamp(
        min=_SMALLEST_WEIGHT_EXTREME
    )
    scale = extreme / largest_code(bits)
    return _codes(weight, scale, bits), scale[:, 0]


def pack_int4(codes: Tensor) -> Tensor:
    """Two 4-bit codes per byte: `[N, K]` int8 in [-8, 7] to `[N, K / 2]` uint8, even k in the low
    nibble."""
    if codes.shape[-1] % PACKED:
        raise ValueError(
            f"{codes.shape[-1]} codes cannot be packed two to a byte; expected an even number"
        )
    nibbles = (codes & (2**PACKED_BITS - 1)).to(torch.uint8)
    return nibbles[..., 0::2] | (nibbles[..., 1::2] << PACKED_BITS)


def unpack_int4(packed: Tensor) -> Tensor:
    """The inverse of `pack_int4`: `[N, K / 2]` uint8 to `[N, K]` int8."""
    signed = packed.view(torch.int8)
    # arithmetic shifts extend the sign
    low, high = (signed << PACKED_BITS) >> PACKED_BITS, signed >> PACKED_BITS
    return torch.stack((low, high), dim=-1).flatten(-2)


def stored_weight(codes: Tensor, codes_to_a_byte: int) -> Tensor:
    """Codes `[N, K]` (int8) as a layer stores them: packed to uint8 `[N, K / 2]` or as they are."""
    return pack_int4(codes) if codes_to_a_byte == PACKED else codes


def weight_codes(weight: Tensor) -> Tensor:
    """Codes `[N, K]` (int8) of a stored weight: uint8 holds two 4-bit codes a byte, int8 one
    code."""
    return unpack_int4(weight) if weight.dtype == torch.uint8 else weight


def integer_matmul(
    activation: Tensor, weight: Tensor, activation_bits: int, weight_bits: int
) -> Tensor:
    """Exact int32 accumulators `[..., N]` of codes `[..., K]` and a stored weight (`weight_codes`).

    Runs as a float32 product: all partial sums are integers, and over a slice of K short enough to
    keep them within 2^24 every one of them is a float32, whatever the order of summation.
    """
    weight = weight_codes(weight)
    depth = activation.shape[-1]
    slice_length = _EXACT_FLOAT32 >> (activation_bits - 1 + weight_bits - 1)
    total: Tensor | None = None
    for start in range(0, depth, slice_length):
        part = slice(start, start + slice_length)
        product = (activation[..., part].float() @ weight[:, part].float().T).to(torch.int32)
        total = product if total is None else total + product
    assert total is not None
    return total


def scale_accumulators(
    accumulators: Tensor, token_scale: Tensor, channel_scale: Tensor, bias: Tensor | None
) -> Tensor:
    """Epilogue: `[..., N]` int32 times `[..., 1]` times `[N]`, plus bias `[N]`; float32."""
    result = accumulators.float() * token_scale * channel_scale
    return result if bias is None else result + bias


def quantize_rows(
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
    """What precedes the integer product, from float tokens to codes; see
    `kernels.ops.quantize_rows`."""
    x = _normalised(x, norm_weight, norm_bias, norm_eps, gelu)
    return quantize_activation(transform_activation(x, signs, smoothing), bits, clip)


def _normalised(
    x: Tensor, norm_weight: Tensor | None, norm_bias: Tensor | None, norm_eps: float, gelu: bool
) -> Tensor:
    x = x.float()
    if norm_weight is not None:
        x = F.layer_norm(x, x.shape[-1:], norm_weight, norm_bias, norm_eps)
    return F.gelu(x) if gelu else x


def gated(x: Tensor) -> Tensor:
    """`silu(a) * b` in float32, `[..., K]`, of (a | b) `[..., 2K]`."""
    gate, value = x.float().chunk(2, dim=-1)
    return F.silu(gate) * value


def is_gated(x: Tensor, weight: Tensor, weight_bits: int) -> bool:
    """Whether tokens `[M, 2K]` are yet to be gated before they meet a stored weight of K
    features."""
    return x.shape[-1] > weight.shape[-1] * (BYTE_BITS // weight_bits)


def linear(
    x: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    activation_bits: int,
    weight_bits: int,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    norm_eps: float,
    gelu: bool,
    signs: Tensor | None,
    smoothing: Tensor | None,
    clip: Tensor | None,
    layer_scale: Tensor | None,
    residual: Tensor | None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A quantised layer and its surroundings; see `kernels.ops.linear`."""
    dtype = x.dtype if dtype is None else dtype
    if is_gated(x, weight, weight_bits):
        x = gated(x)
    if activation_bits == FLOAT_ACTIVATIONS:
        transformed = transform_activation(
            _normalised(x, norm_weight, norm_bias, norm_eps, gelu), signs, smoothing
        )
        y = _weight_only_product(transformed, weight, weight_scale)
        y = y if bias is None else y + bias
    else:
        codes, scale = quantize_rows(
            x, norm_weight, norm_bias, norm_eps, gelu, signs, smoothing, clip, activation_bits
        )
        accumulators = integer_matmul(codes, weight, activation_bits, weight_bits)
        y = scale_accumulators(accumulators, scale, weight_scale, bias)
    return surround(y, layer_scale, residual, dtype)


def surround(
    y: Tensor, layer_scale: Tensor | None, residual: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """What follows a product in float32: `residual + layer_scale * y`, rounded once."""
    if layer_scale is not None:
        y = y * layer_scale
    if residual is not None:
        y = residual.float() + y
    return y.to(dtype)


def _weight_only_product(x: Tensor, weight: Tensor, weight_scale: Tensor) -> Tensor:
    parts = []
    for stored, scale in zip(
        weight.split(_DEQUANTIZED_ROWS), weight_scale.split(_DEQUANTIZED_ROWS), strict=True
    ):
        parts.append(F.linear(x, weight_codes(stored).float() * scale[:, None]))
    return torch.cat(parts, dim=-1)


def qk_norm_rope(
    qkv: Tensor,
    q_weight: Tensor | None,
    q_bias: Tensor | None,
    k_weight: Tensor | None,
    k_bias: Tensor | None,
    norm_eps: float,
    cos: Tensor | None,
    sin: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Normalised and rotated queries and keys; see `kernels.ops.qk_norm_rope`."""
    return (
        norm_rope(qkv[:, :, 0], q_weight, q_bias, norm_eps, cos, sin),
        norm_rope(qkv[:, :, 1], k_weight, k_bias, norm_eps, cos, sin),
    )


def norm_rope(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    norm_eps: float,
    cos: Tensor | None,
    sin: Tensor | None,
) -> Tensor:
    """Normalised and rotated queries or keys; see `kernels.ops.norm_rope`."""
    y = x.transpose(1, 2).float()
    if weight is not None:
        y = F.layer_norm(y, y.shape[-1:], weight, bias, norm_eps)
    if cos is not None and sin is not None:
        frames = y.unflatten(2, (-1, len(cos)))
        y1, y2, x1, x2 = frames.chunk(4, dim=-1)
        turned = torch.cat((-y2, y1, -x2, x1), dim=-1)
        y = (frames * cos + turned * sin).flatten(2, 3)
    return y.to(x.dtype).contiguous()


def int8_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention with both products on 8-bit codes; see `kernels.ops.int8_attention`."""
    return packed_attention(q, pack_keys_values(k, v), k.shape[2])


def pack_keys_values(k: Tensor, v: Tensor) -> Tensor:
    """Keys and values as 8-bit codes and their scales, byte after byte; see
    `kernels.ops.pack_keys_values`.

    Keys lose their mean over the tokens, which softmax does not see (Zhang et al., "SageAttention",
    2025). Keys have one scale per token, values one per channel.
    """
    k, v = k.float(), v.float()
    k_codes, k_scale = quantize_activation(k - k.mean(dim=-2, keepdim=True), ATTENTION_BITS)
    v_codes, v_scale = quantize_activation(v.transpose(-2, -1), ATTENTION_BITS)
    parts = (k_codes, k_scale, v_codes, v_scale)
    return torch.cat([part.contiguous().flatten(2).view(torch.uint8) for part in parts], dim=-1)


def check_packed(packed: Tensor, keys: int, width: int, size: int) -> None:
    """Raises ValueError unless a head in `packed` has the `size`, bytes, that so many keys take."""
    if packed.shape[-1] != size:
        raise ValueError(
            f"packed_attention: packed has {packed.shape[-1]} bytes a head; expected {size}, what "
            f"pack_keys_values gives for {keys} keys that are {width} wide"
        )


def packed_attention(q: Tensor, packed: Tensor, keys: int) -> Tensor:
    """Attention to what `pack_keys_values` packed; see `kernels.ops.packed_attention`.

    Queries have one scale per token. Of every block of 64 keys, the weights `exp(s - max s)` are
    rounded to 0..127, so that a block of small weights keeps its precision; the normaliser sums the
    rounded weights.
    """
    width = q.shape[-1]
    codes, scales = torch.int8, torch.float32
    sizes = (keys * width, keys * scales.itemsize, width * keys, width * scales.itemsize)
    check_packed(packed, keys, width, sum(sizes))
    shapes = ((keys, width), (keys, 1), (width, keys), (width, 1))
    k_codes, k_scale, v_codes, v_scale = (
        part.clone(memory_format=torch.contiguous_format).view(dtype).unflatten(-1, shape)
        for part, dtype, shape in zip(
            packed.split(sizes, dim=-1), (codes, scales, codes, scales), shapes, strict=True
        )
    )
    v_codes, v_scale = v_codes.transpose(-2, -1), v_scale.transpose(-2, -1)
    dtype = q.dtype
    q = q.float()
    q_codes, q_scale = quantize_activation(q * width**-0.5, ATTENTION_BITS)
    scores = (
        (q_codes.float() @ k_codes.float().transpose(-2, -1)) * q_scale * k_scale.transpose(-2, -1)
    )
    highest = scores.amax(dim=-1, keepdim=True)
    total = torch.zeros_like(highest)
    mixed = torch.zeros_like(q)
    for block, values in zip(
        scores.split(KEYS_PER_BLOCK, dim=-1), v_codes.split(KEYS_PER_BLOCK, dim=-2), strict=True
    ):
        block_highest = block.amax(dim=-1, keepdim=True)
        codes = ((block - block_highest).exp() * LARGEST_PROBABILITY_CODE).round()
        gain = (block_highest - highest).exp()
        total += codes.sum(dim=-1, keepdim=True) * gain
        mixed += (codes @ values.float()) * gain
    return (mixed / total * v_scale).transpose(1, 2).to(dtype).contiguous()
