"""The integer arithmetic of a quantised linear layer, defined once in plain torch.

This is the fallback, the oracle of every native kernel, and what calibration simulates.
The contract for `y = x W^T + b`:

    x' = (x * r) H / d          rotation by random signs r and the normalised Hadamard matrix H, then smoothing by d
    a  = clamp(round(x' / s_token))     per token, dynamic, symmetric; round half to even
    w  = clamp(round(W' / s_channel))   per output channel, symmetric, W' = (W * r) H * d
    y  = (a . w) * s_token * s_channel + b     with the exact int32 accumulator a . w

Codes of b bits lie in [-2^(b-1), 2^(b-1) - 1]; a scale maps the extreme value to 2^(b-1) - 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.hadamard import hadamard_matrix, hadamard_transform

_EXACT_FLOAT32 = 2**24  # every integer up to here is a float32
_SMALLEST_WEIGHT_EXTREME = 1e-5


def largest_code(bits: int) -> int:
    """The largest code of a signed `bits`-bit integer: 7 for 4 bits, 127 for 8."""
    return 2 ** (bits - 1) - 1


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
    """The counterpart for a weight `[N, K]`: rotates its rows, then multiplies by the channel scale; float32."""
    weight = weight.float()
    if signs is not None:
        weight = rotate(weight, signs)
    return weight if smoothing is None else weight * smoothing


def quantize_activation(x: Tensor, bits: int, clip: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Codes `[..., K]` (int8) and scales `[..., 1]` (float32), one scale per token; an all-zero token gets scale 1.

    `clip` `[2]` multiplies the magnitudes of a token's minimum and maximum before the larger one is taken.
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
    extreme = torch.maximum(lowest.clamp(max=0).abs(), highest.clamp(min=0)).clamp(min=_SMALLEST_WEIGHT_EXTREME)
    scale = extreme / largest_code(bits)
    return _codes(weight, scale, bits), scale[:, 0]


def pack_int4(codes: Tensor) -> Tensor:
    """Two 4-bit codes per byte: `[N, K]` int8 in [-8, 7] to `[N, K / 2]` uint8, even k in the low nibble."""
    if codes.shape[-1] % 2:
        raise ValueError(f"{codes.shape[-1]} codes cannot be packed two to a byte; expected an even number")
    nibbles = (codes & 0xF).to(torch.uint8)
    return nibbles[..., 0::2] | (nibbles[..., 1::2] << 4)


def unpack_int4(packed: Tensor) -> Tensor:
    """The inverse of `pack_int4`: `[N, K / 2]` uint8 to `[N, K]` int8."""
    signed = packed.view(torch.int8)
    low, high = (signed << 4) >> 4, signed >> 4  # arithmetic shifts extend the sign
    return torch.stack((low, high), dim=-1).flatten(-2)


def integer_matmul(activation: Tensor, weight: Tensor, activation_bits: int, weight_bits: int) -> Tensor:
    """Exact int32 accumulators `[..., N]` of codes `[..., K]` and `[N, K]`.

    Runs as a float32 product: all partial sums are integers, and over a slice of K short enough to keep them within
    2^24 every one of them is a float32, whatever the order of summation.
    """
    depth = activation.shape[-1]
    slice_length = _EXACT_FLOAT32 >> (activation_bits - 1 + weight_bits - 1)
    total: Tensor | None = None
    for start in range(0, depth, slice_length):
        part = slice(start, start + slice_length)
        product = (activation[..., part].float() @ weight[:, part].float().T).to(torch.int32)
        total = product if total is None else total + product
    assert total is not None
    return total


def scale_accumulators(accumulators: Tensor, token_scale: Tensor, channel_scale: Tensor, bias: Tensor | None) -> Tensor:
    """Epilogue: `[..., N]` int32 times `[..., 1]` times `[N]`, plus bias `[N]`; float32."""
    result = accumulators.float() * token_scale * channel_scale
    return result if bias is None else result + bias
