"""The operators of `kernels.ops` on one GPU: which kernels run for which arguments, and what they
are given.

What has no kernel (see `_prologue_fits`, `_product_fits`, float activations) runs as the definition
in plain torch on the same device. A layer's product is by one of our tiles or by torch
(`products.py`), whichever is faster for its shape by the table of `times`; all give the same bits.
The first layer of a shape measures them, unless a graph is captured. Beyond that nothing here
synchronises, and memory comes from torch's allocator only: safe to capture in a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

import torch
from torch import Tensor

from kernels import reference
from kernels.cuda.library import (
    DTYPES,
    EpilogueArguments,
    GemmArguments,
    KernelLibrary,
    Layout,
    PrologueArguments,
    QkNormRopeArguments,
    Scheme,
)
from kernels.cuda.products import PRODUCTS, takes
from kernels.cuda.targets import Target
from kernels.cuda.tiles import Tile, choose_tile
from kernels.fastest import Fastest
from kernels.formats import (
    BYTE_BITS,
    FLOAT_ACTIVATIONS,
    PACKED,
    PACKED_BITS,
    WHOLE,
    largest_code,
)

WIDEST_ROW = 4096  # of the prologue: 256 threads with 16 elements each
HEAD_WIDTHS = (32, 64, 128, 256)
_ALIGNMENT = 16  # bytes of a vector load
_GROUP = 32  # codes that a matrix instruction takes from one row at least


# norm_weight, norm_bias, norm_eps, gelu, signs, smoothing, clip, bits
Prologue = tuple[
    Tensor | None, Tensor | None, float, bool, Tensor | None, Tensor | None, Tensor | None, int
]
# weight_scale, bias, layer_scale, residual
Epilogue = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]

_Given = TypeVar("_Given", Tensor, Tensor | None)


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _aligned(tensor: _Given) -> _Given:
    """`tensor` where vector loads may read it: a view may start anywhere in its storage."""
    if tensor is None or tensor.data_ptr() % _ALIGNMENT == 0:
        return tensor
    return tensor.clone()


def _captured(x: Tensor) -> bool:
    return x.device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _prologue_fits(width: int, rotated: bool) -> bool:
    power_of_two = width & (width - 1) == 0
    return width % _GROUP == 0 and width <= WIDEST_ROW and (power_of_two or not rotated)


def _product_fits(depth: int) -> bool:
    return depth % _GROUP == 0


def _depth(weight: Tensor, weight_bits: int) -> int:
    """Features that a layer with this stored weight takes."""
    return weight.shape[1] * (BYTE_BITS // weight_bits)


def fits(width: int, rotated: bool) -> bool:
    """Whether a linear layer of so many input features has kernels for all of it."""
    return _prologue_fits(width, rotated) and _product_fits(width)


def arrange_codes(codes: Tensor, layout: Layout) -> Tensor:
    """int8 codes `[M, K]` as the matrix product wants them."""
    if layout is Layout.PACKED:
        return reference.pack_int4(codes)
    if layout is Layout.EVEN_ODD:
        rows, width = codes.shape
        return (
            codes.view(rows, width // _GROUP, _GROUP // 2, 2).transpose(2, 3).reshape(rows, width)
        )
    return codes


@dataclass(frozen=True)
class CudaBackend:
    """Kernels of `library`, compiled for `target`, on a GPU with so many `multiprocessors`.

    `stream` gives the CUDA stream that the caller's work is ordered by; `tiles` are those to choose
    from, `products` those of torch that may be used beside them, and `times` tells which is the
    fastest: without it the tile is estimated. Without `turns_heads` queries and keys go by their
    definition. Methods take what the operators' schemas say.
    """

    library: KernelLibrary
    target: Target
    multiprocessors: int
    stream: Callable[[torch.device], int]
    tiles: tuple[Tile, ...]
    turns_heads: bool = True
    products: tuple[str, ...] = ()
    times: Fastest | None = None

    def quantize_rows(
        self,
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
        prologue = (norm_weight, norm_bias, norm_eps, gelu, signs, smoothing, clip, bits)
        return self.quantize(x, prologue, Layout.BYTES)

    def integer_matmul(
        self, codes: Tensor, weight: Tensor, activation_bits: int, weight_bits: int
    ) -> Tensor:
        if not _product_fits(codes.shape[1]):
            return reference.integer_matmul(codes, weight, activation_bits, weight_bits)
        output = codes.new_empty((codes.shape[0], weight.shape[0]), dtype=torch.int32)
        tile = self.tile_for(*output.shape)
        scheme, layout = self.scheme_for(activation_bits, weight_bits, tile)
        self.multiply(arrange_codes(codes, layout), weight, scheme, tile, output)
        return output

    def linear(
        self,
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
        dtype = x.dtype if dtype is None else dtype
        if activation_bits == FLOAT_ACTIVATIONS or not _product_fits(_depth(weight, weight_bits)):
            return reference.linear(
                x,
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
                residual,
                dtype,
            )
        prologue = (norm_weight, norm_bias, norm_eps, gelu, signs, smoothing, clip, activation_bits)
        epilogue = (weight_scale, bias, layer_scale, residual)
        run = partial(self.linear_by, x, weight, weight_bits, prologue, epilogue, dtype)
        return run(self.way_for(x, weight, activation_bits, weight_bits, dtype, run))

    def linear_by(
        self,
        x: Tensor,
        weight: Tensor,
        weight_bits: int,
        prologue: Prologue,
        epilogue: Epilogue,
        dtype: torch.dtype,
        way: str,
    ) -> Tensor:
        """`linear` by the tile or the product of torch that `way` names."""
        activation_bits = prologue[-1]
        gated = reference.is_gated(x, weight, weight_bits)
        if way in PRODUCTS:
            codes, token_scale = self.quantize(x, prologue, Layout.BYTES, gated)
            sums = PRODUCTS[way](codes, reference.weight_codes(weight))
            return self.finish(sums, token_scale, epilogue, dtype)
        tile = self._tiles[way]
        scheme, layout = self.scheme_for(activation_bits, weight_bits, tile)
        output = x.new_empty((x.shape[0], weight.shape[0]), dtype=dtype)
        codes, token_scale = self.quantize(x, prologue, layout, gated)
        self.multiply(codes, weight, scheme, tile, output, token_scale, *epilogue)
        return output

    def way_for(
        self,
        x: Tensor,
        weight: Tensor,
        activation_bits: int,
        weight_bits: int,
        dtype: torch.dtype,
        run: Callable[[str], object],
    ) -> str:
        """The name of the tile or the product of torch by which a layer is the fastest; `run` runs
        it by one of them."""
        rows, channels = x.shape[0], weight.shape[0]
        if rows and self.times is not None:
            about = 1 << (rows - 1).bit_length()  # one measurement up to twice as many rows
            gate = "gated " if reference.is_gated(x, weight, weight_bits) else ""
            what = (
                f"w{weight_bits}a{activation_bits} {gate}{about} x {_depth(weight, weight_bits)} x "
                f"{channels} {x.dtype} {dtype}"
            )
            way = self.times.chosen(what)
            if way is not None:
                return way
            if not _captured(x):
                names = [
                    name for name in self.products if takes(name, activation_bits, weight_bits)
                ]
                ways = {name: partial(run, name) for name in (*self._tiles, *names)}
                return self.times.choose(what, ways)
        return str(self.tile_for(rows, channels))

    @cached_property
    def _tiles(self) -> dict[str, Tile]:
        return {str(tile): tile for tile in self.tiles}

    def qk_norm_rope(
        self,
        qkv: Tensor,
        q_weight: Tensor | None,
        q_bias: Tensor | None,
        k_weight: Tensor | None,
        k_bias: Tensor | None,
        norm_eps: float,
        cos: Tensor | None,
        sin: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        batch, tokens, _three, heads, width = qkv.shape
        if not self.turns_heads or width not in HEAD_WIDTHS:
            return reference.qk_norm_rope(
                qkv, q_weight, q_bias, k_weight, k_bias, norm_eps, cos, sin
            )
        if cos is not None and sin is not None and cos.shape[0] != tokens:
            cos, sin = (table.repeat(tokens // len(table), 1) for table in (cos, sin))
        q, k = (qkv.new_empty((batch, heads, tokens, width)) for _ in range(2))
        # a list: copies are kept until the kernel is started
        given = [_aligned(one) for one in (qkv, q_weight, q_bias, k_weight, k_bias, cos, sin)]
        pointers = map(_pointer, (*given, q, k))
        sizes = (batch, tokens, norm_eps, heads, width, DTYPES[qkv.dtype])
        self.library.qk_norm_rope(QkNormRopeArguments(*pointers, self.stream(qkv.device), *sizes))
        return q, k

    def tile_for(self, tokens: int, channels: int) -> Tile:
        """The tile of least estimated time."""
        return choose_tile(max(tokens, 1), channels, self.multiprocessors, self.tiles)

    def scheme_for(
        self, activation_bits: int, weight_bits: int, tile: Tile
    ) -> tuple[Scheme, Layout]:
        if weight_bits > PACKED_BITS:
            return Scheme.W8A8, Layout.BYTES
        # a warpgroup reads activations of one byte, whatever they hold
        if activation_bits > PACKED_BITS or tile.warpgroup:
            return Scheme.W4A8, Layout.EVEN_ODD
        return (Scheme.W4A4 if self.target.int4 else Scheme.W4A4_WIDENED), Layout.PACKED

    def quantize(
        self, x: Tensor, prologue: Prologue, layout: Layout, gated: bool = False
    ) -> tuple[Tensor, Tensor]:
        """`quantize_rows` of tokens `[M, K]`, or of those that `gated` ones `[M, 2K]` stand for."""
        norm_weight, norm_bias, norm_eps, gelu, signs, smoothing, clip, bits = prologue
        rows, width = x.shape[0], x.shape[1] // (1 + gated)
        if not _prologue_fits(width, rotated=signs is not None):
            codes, scale = reference.quantize_rows(reference.gated(x) if gated else x, *prologue)
            return arrange_codes(codes, layout), scale
        x = _aligned(x)
        parameters = [_aligned(given) for given in (norm_weight, norm_bias, signs, smoothing)]
        if layout is Layout.PACKED:
            codes = x.new_empty((rows, width // PACKED), dtype=torch.uint8)
        else:
            codes = x.new_empty((rows, width), dtype=torch.int8)
        scale = x.new_empty((rows, 1), dtype=torch.float32)
        pointers = map(_pointer, (x, *parameters, clip, codes, scale))
        numbers = (
            rows,
            width,
            norm_eps,
            width**-0.5,
            DTYPES[x.dtype],
            gelu,
            gated,
            largest_code(bits),
            layout,
        )
        self.library.prologue(PrologueArguments(*pointers, self.stream(x.device), *numbers))
        return codes, scale

    def finish(
        self, sums: Tensor, token_scale: Tensor, epilogue: Epilogue, dtype: torch.dtype
    ) -> Tensor:
        """The layer's output `[M, N]` of whole sums, int32 or float32, whose rows are a multiple of
        4 apart."""
        m, n = sums.shape
        output = sums.new_empty((m, n), dtype=dtype)
        given = [_aligned(tensor) for tensor in (token_scale, *epilogue)]
        pointers = map(_pointer, (sums, *given, output))
        numbers = (m, n, sums.stride(0), DTYPES[sums.dtype], DTYPES[dtype])
        self.library.epilogue(EpilogueArguments(*pointers, self.stream(sums.device), *numbers))
        return output

    def multiply(
        self,
        codes: Tensor,
        weight: Tensor,
        scheme: Scheme,
        tile: Tile,
        output: Tensor,
        token_scale: Tensor | None = None,
        channel_scale: Tensor | None = None,
        bias: Tensor | None = None,
        layer_scale: Tensor | None = None,
        residual: Tensor | None = None,
    ) -> None:
        m, n = output.shape
        k = weight.shape[1] * (WHOLE if scheme is Scheme.W8A8 else PACKED)
        surroundings = (token_scale, channel_scale, bias, layer_scale, residual)
        given = [_aligned(tensor) for tensor in (codes, weight, *surroundings)]
        pointers = map(_pointer, (*given, output))
        numbers = (m, n, k, scheme, tile.index, DTYPES[output.dtype])
        self.library.gemm(GemmArguments(*pointers, self.stream(output.device), *numbers))
