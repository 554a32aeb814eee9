"""The operators on CPU tensors: native where the library runs, else their definition in plain
torch."""

from __future__ import annotations

from ctypes import byref, c_int64
from functools import cache

import torch
from torch import Tensor

from kernels import reference, winograd
from kernels.cpu import library
from kernels.formats import BYTE_BITS, FLOAT_ACTIVATIONS, largest_code
from kernels.hadamard import base_matrix, base_order


def _address(tensor: Tensor | None) -> int | None:
    assert tensor is None or tensor.is_contiguous()
    return None if tensor is None else tensor.data_ptr()


@cache
def _base(order: int) -> Tensor:
    return base_matrix(order).float().contiguous()


def _rows(
    x: Tensor,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    norm_eps: float,
    gelu: bool,
    signs: Tensor | None,
    smoothing: Tensor | None,
    clip: Tensor | None,
    bits: int,
    gated: bool = False,
) -> library.Rows:
    features = x.shape[1] // 2 if gated else x.shape[1]
    order = 1 if signs is None else base_order(features)
    return library.Rows(
        x=_address(x),
        rows=x.shape[0],
        features=features,
        norm_weight=_address(norm_weight),
        norm_bias=_address(norm_bias),
        signs=_address(signs),
        base=_address(_base(order)) if order > 1 else None,
        smoothing=_address(smoothing),
        clip=_address(clip),
        norm_eps=norm_eps,
        hadamard_scale=features**-0.5,
        order=order,
        gelu=gelu,
        gated=gated,
        largest_code=largest_code(bits),
    )


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
    native = library.native()
    if native is None:
        return reference.quantize_rows(
            x, norm_weight, norm_bias, norm_eps, gelu, signs, smoothing, clip, bits
        )
    compiled, kernels = native
    x = x.float()
    codes, scale = x.new_empty(x.shape, dtype=torch.int8), x.new_empty(x.shape[0], 1)
    rows = _rows(x, norm_weight, norm_bias, norm_eps, gelu, signs, smoothing, clip, bits)
    compiled.call("quantize_rows", kernels, byref(rows), codes.data_ptr(), scale.data_ptr())
    return codes, scale


def integer_matmul(codes: Tensor, weight: Tensor, activation_bits: int, weight_bits: int) -> Tensor:
    native = library.native()
    if native is None:
        return reference.integer_matmul(codes, weight, activation_bits, weight_bits)
    compiled, kernels = native
    accumulators = codes.new_empty((codes.shape[0], weight.shape[0]), dtype=torch.int32)
    shape = library.Rows(
        rows=codes.shape[0], features=codes.shape[1], largest_code=largest_code(activation_bits)
    )
    product = library.Product(
        weight=_address(weight),
        outputs=weight.shape[0],
        accumulators=accumulators.data_ptr(),
        codes_to_a_byte=BYTE_BITS // weight_bits,
    )
    compiled.call("integer_matmul", kernels, _address(codes), byref(shape), byref(product))
    return accumulators


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
    prologue = (norm_weight, norm_bias, norm_eps, gelu, signs, smoothing, clip)
    native = library.native()
    if native is None or activation_bits == FLOAT_ACTIVATIONS:
        return reference.linear(
            x,
            weight,
            weight_scale,
            bias,
            activation_bits,
            weight_bits,
            *prologue,
            layer_scale,
            residual,
            dtype,
        )
    compiled, kernels = native
    tokens, base = x.float(), None if residual is None else residual.float()
    y = tokens.new_empty((x.shape[0], weight.shape[0]))
    product = library.Product(
        weight=_address(weight),
        outputs=weight.shape[0],
        weight_scale=_address(weight_scale),
        bias=_address(bias),
        layer_scale=_address(layer_scale),
        residual=_address(base),
        y=y.data_ptr(),
        codes_to_a_byte=BYTE_BITS // weight_bits,
    )
    gated = reference.is_gated(x, weight, weight_bits)
    rows = _rows(tokens, *prologue, activation_bits, gated)
    compiled.call("linear", kernels, byref(rows), byref(product))
    return y.to(x.dtype if dtype is None else dtype)


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
    native = library.native()
    if native is None:
        return reference.qk_norm_rope(qkv, q_weight, q_bias, k_weight, k_bias, norm_eps, cos, sin)
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
    native = library.native()
    if native is None:
        return reference.norm_rope(x, weight, bias, norm_eps, cos, sin)
    compiled, kernels = native
    source = x.float()
    batch, tokens, heads, width = source.shape
    y = source.new_empty(batch, heads, tokens, width)
    arguments = library.Heads(
        x=source.data_ptr(),
        batch=batch,
        tokens=tokens,
        heads=heads,
        width=width,
        stride=source.stride(1),
        weight=_address(weight),
        bias=_address(bias),
        cos=_address(cos),
        sin=_address(sin),
        positions=0 if cos is None else len(cos),
        y=y.data_ptr(),
        norm_eps=norm_eps,
    )
    compiled.call("norm_rope", kernels, byref(arguments))
    return y.to(x.dtype)


_Strides = c_int64 * 3


def _keys_values(k: Tensor, v: Tensor) -> dict[str, object]:
    return {
        "k": k.data_ptr(),
        "v": v.data_ptr(),
        "batch": k.shape[0],
        "heads": k.shape[1],
        "keys": k.shape[2],
        "width": k.shape[3],
        "k_stride": _Strides(*k.stride()[:3]),
        "v_stride": _Strides(*v.stride()[:3]),
    }


def _queries(q: Tensor, y: Tensor) -> dict[str, object]:
    return {
        "q": q.data_ptr(),
        "batch": q.shape[0],
        "heads": q.shape[1],
        "queries": q.shape[2],
        "width": q.shape[3],
        "q_stride": _Strides(*q.stride()[:3]),
        "y": y.data_ptr(),
    }


def _mixed(q: Tensor) -> Tensor:
    batch, heads, queries, width = q.shape
    return q.new_empty(batch, queries, heads, width)


def int8_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    native = library.native()
    if native is None:
        return reference.int8_attention(q, k, v)
    compiled, kernels = native
    dtype = q.dtype
    q, k, v = q.float(), k.float(), v.float()
    y = _mixed(q)
    arguments = library.Attention(**{**_keys_values(k, v), **_queries(q, y)})
    compiled.call("int8_attention", kernels, byref(arguments))
    return y.to(dtype)


def pack_keys_values(k: Tensor, v: Tensor) -> Tensor:
    native = library.native()
    if native is None:
        return reference.pack_keys_values(k, v)
    compiled, kernels = native
    k, v = k.float(), v.float()
    size = compiled.packed_bytes(kernels, k.shape[2], k.shape[3])
    packed = k.new_zeros((*k.shape[:2], size), dtype=torch.uint8)  # what fills up tiles stays 0
    arguments = library.Attention(**_keys_values(k, v), packed=packed.data_ptr())
    compiled.call("pack_keys_values", kernels, byref(arguments))
    return packed


def packed_attention(q: Tensor, packed: Tensor, keys: int) -> Tensor:
    native = library.native()
    if native is None:
        return reference.packed_attention(q, packed, keys)
    compiled, kernels = native
    size = compiled.packed_bytes(kernels, keys, q.shape[3])
    reference.check_packed(packed, keys, q.shape[3], size)
    dtype = q.dtype
    q = q.float()
    y = _mixed(q)
    arguments = library.Attention(**_queries(q, y), keys=keys, packed=_address(packed))
    compiled.call("packed_attention", kernels, byref(arguments))
    return y.to(dtype)


def tile_factors(map: Tensor, first: int, rows: int) -> Tensor:
    native = library.native()
    if native is None:
        return winograd.tile_factors(map, first, rows)
    compiled, kernels = native
    tiles = rows * winograd.tiles_across(map.shape[1])
    factors = map.new_empty(winograd.PRODUCTS, tiles, map.shape[2])
    arguments = _tiles(map, factors, None, first, rows)
    compiled.call("tile_factors", kernels, byref(arguments))
    return factors


def tile_outputs(map: Tensor, products: Tensor, bias: Tensor | None, first: int) -> None:
    native = library.native()
    if native is None:
        return winograd.tile_outputs(map, products, bias, first)
    compiled, kernels = native
    rows = products.shape[1] // winograd.tiles_across(map.shape[1])
    compiled.call("tile_outputs", kernels, byref(_tiles(map, products, bias, first, rows)))
    return None


def _tiles(
    map: Tensor, products: Tensor, bias: Tensor | None, first: int, rows: int
) -> library.Tiles:
    height, width, channels = map.shape
    return library.Tiles(
        map=_address(map),
        products=_address(products),
        bias=_address(bias),
        height=height,
        width=width,
        channels=channels,
        first=first,
        rows=rows,
    )
