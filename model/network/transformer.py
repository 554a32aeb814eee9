"""The transformer block shared by the image encoder, the alternating attention and the camera
head."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import QuantizedLinear, kernel_path, ops
from model.network.rope import Rotation

ATTENTION = ("float", "int8")
# What lies between two layers is several times as large as the tokens themselves, so that only so
# many go through at a time: on a CPU those of a picture of 518 x 518 pixels, for its caches' sake.
_TOKENS_AT_ONCE = {"cpu": 1374, "cuda": 2**15}
_HEADS_AT_ONCE = 4  # where attention is over more tokens than that
_ALL = slice(None)


def tokens_at_once(device: torch.device) -> int:
    """How many tokens go through a block at a time; all of them where gradients are asked for,
    which need what lies between anyway."""
    every = sys.maxsize
    return every if torch.is_grad_enabled() else _TOKENS_AT_ONCE.get(device.type, every)


def in_parts(into: Tensor, size: int, make: Callable[[slice], Tensor]) -> Tensor:
    """`into`, or a tensor of its shape in another type, filled with what `make` gives for `size`
    rows at a time."""
    for first in range(0, len(into), size):
        part = slice(first, first + size)
        made = make(part)
        if made.dtype != into.dtype:
            into = torch.empty_like(into, dtype=made.dtype)
        into[part] = made
    return into


class LayerScale(nn.Module):
    """One learned gain per channel (Touvron et al., "Going deeper with Image Transformers",
    2021)."""

    def __init__(self, dim: int, init_values: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init_values))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def _surrounded(
    layer: nn.Module,
    x: Tensor,
    *,
    norm: nn.LayerNorm | None = None,
    gelu: bool = False,
    scale: LayerScale | None = None,
    residual: Tensor | None = None,
    outputs: Tensor | slice | None = None,
) -> Tensor:
    """`residual + scale(layer(gelu(norm(x))))`; a quantised layer does all of it in one pass over
    its input. Of the layer's features only `outputs`, by index or as a range, by default all."""
    if isinstance(layer, QuantizedLinear):
        gamma = None if scale is None else scale.gamma
        dtype = _product_dtype(x) if residual is None else residual.dtype
        return layer(
            x,
            norm=norm,
            gelu=gelu,
            layer_scale=gamma,
            residual=residual,
            dtype=dtype,
            outputs=outputs,
        )
    x = x if norm is None else norm(x)
    x = F.gelu(x) if gelu else x
    if outputs is None:
        y = layer(x)
    else:
        assert isinstance(layer, nn.Linear)
        y = F.linear(x, layer.weight[outputs], None if layer.bias is None else layer.bias[outputs])
    y = y if scale is None else scale(y)
    return y if residual is None else residual + y


def _product_dtype(x: Tensor) -> torch.dtype:
    """What a matrix product of `x` comes out in: under autocast the narrower type, as torch's own
    products."""
    kind = x.device.type
    narrow = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if narrow else x.dtype


class Attention(nn.Module):
    """Multi-head self-attention with optional normalisation of queries and keys. Input and output
    `[B, N, C]`.

    `arithmetic` is "float", or "int8" where `kernels.ops.int8_attention` may run: it does on a
    device that has a kernel for it; elsewhere torch's attention runs, which is faster than the
    definition.
    """

    arithmetic = "float"

    def __init__(self, dim: int, num_heads: int, qk_norm: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm: nn.Module = nn.LayerNorm(dim // num_heads) if qk_norm else nn.Identity()
        self.k_norm: nn.Module = nn.LayerNorm(dim // num_heads) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def heads(
        self,
        x: Tensor,
        rope: Rotation | None = None,
        norm: nn.LayerNorm | None = None,
        chosen: slice = _ALL,
        keys: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the `chosen` heads, each `[B, heads, N, C / heads]`; queries
        and keys normalised and rotated. Keys and values of the tokens `keys`, by default of all."""
        if keys is not None:
            return self._queries(x, rope, norm, chosen), *self._keys_values(
                x.index_select(1, keys), None if rope is None else rope.at(keys), norm, chosen
            )
        qkv = self._projected(x, norm, _ALL, chosen)
        q, k = qkv[:, :, 0], qkv[:, :, 1]
        if self._in_plain_torch(qkv, rope) or not self._changes(rope):
            q, k = self._placed(q, rope, self.q_norm), self._placed(k, rope, self.k_norm)
        else:
            q, k = ops.qk_norm_rope(
                qkv,
                q_weight=getattr(self.q_norm, "weight", None),
                q_bias=getattr(self.q_norm, "bias", None),
                k_weight=getattr(self.k_norm, "weight", None),
                k_bias=getattr(self.k_norm, "bias", None),
                norm_eps=getattr(self.q_norm, "eps", ops.NORM_EPS),
                cos=None if rope is None else rope.cos[0, 0].float(),
                sin=None if rope is None else rope.sin[0, 0].float(),
            )
        return q, k, qkv[:, :, 2].transpose(1, 2)

    def _queries(
        self, x: Tensor, rope: Rotation | None, norm: nn.LayerNorm | None, chosen: slice = _ALL
    ) -> Tensor:
        q = self._projected(x, norm, slice(0, 1), chosen)
        return self._placed(q[:, :, 0], rope, self.q_norm)

    def _keys_values(
        self, x: Tensor, rope: Rotation | None, norm: nn.LayerNorm | None, chosen: slice
    ) -> tuple[Tensor, Tensor]:
        kv = self._projected(x, norm, slice(1, 3), chosen)
        return self._placed(kv[:, :, 0], rope, self.k_norm), kv[:, :, 1].transpose(1, 2)

    def _projected(
        self, x: Tensor, norm: nn.LayerNorm | None, parts: slice, chosen: slice
    ) -> Tensor:
        """Those `parts` of queries, keys and values, `[B, N, parts, heads, C / heads]`."""
        batch, tokens, width = x.shape
        outputs: Tensor | slice | None = None
        if chosen != _ALL:
            features = torch.arange(3 * width, device=x.device).view(3, self.num_heads, -1)
            outputs = features[parts, chosen].flatten()
        elif parts != _ALL:
            outputs = slice(parts.start * width, parts.stop * width)
        made = _surrounded(self.qkv, x, norm=norm, outputs=outputs)
        count = len(range(3)[parts])
        return made.view(batch, tokens, count, -1, width // self.num_heads)

    def _placed(self, x: Tensor, rope: Rotation | None, norm: nn.Module) -> Tensor:
        """Queries or keys `[B, heads, N, D]`, normalised and rotated, of `[B, N, heads, D]`."""
        if self._in_plain_torch(x, rope):
            x = norm(x.transpose(1, 2))
            return x if rope is None else rope.apply(x)
        if not self._changes(rope):
            return x.transpose(1, 2)
        return ops.norm_rope(
            x,
            weight=getattr(norm, "weight", None),
            bias=getattr(norm, "bias", None),
            norm_eps=getattr(norm, "eps", ops.NORM_EPS),
            cos=None if rope is None else rope.cos[0, 0].float(),
            sin=None if rope is None else rope.sin[0, 0].float(),
        )

    def _changes(self, rope: Rotation | None) -> bool:
        return rope is not None or not isinstance(self.q_norm, nn.Identity)

    @staticmethod
    def _in_plain_torch(x: Tensor, rope: Rotation | None) -> bool:
        """Whether gradients are asked for, or every scene has positions of its own."""
        return x.requires_grad or (rope is not None and len(rope.cos) > 1)

    def forward(
        self,
        x: Tensor,
        rope: Rotation | None = None,
        *,
        norm: nn.LayerNorm | None = None,
        scale: LayerScale | None = None,
        residual: Tensor | None = None,
        keys: Tensor | None = None,
    ) -> Tensor:
        """Every token asks; `keys` are those that are looked at, by index, by default all."""
        if x.shape[1] <= tokens_at_once(x.device):
            mixed = self._mixed(*self.heads(x, rope, norm, keys=keys))
            return _surrounded(self.proj, mixed.flatten(2), scale=scale, residual=residual)
        if self._runs_in_8_bits("packed_attention", x.device):
            return self._by_queries(x, rope, norm, scale, residual, keys)
        return self._by_heads(x, rope, norm, scale, residual, keys)

    def _by_heads(
        self,
        x: Tensor,
        rope: Rotation | None,
        norm: nn.LayerNorm | None,
        scale: LayerScale | None,
        residual: Tensor | None,
        keys: Tensor | None,
    ) -> Tensor:
        """The same with queries, keys and values of a few heads at a time."""
        mixed: Tensor | None = None
        for chosen in self._few_heads():
            some = self._mixed(*self.heads(x, rope, norm, chosen, keys))
            if mixed is None:
                mixed = some.new_empty(*some.shape[:2], self.num_heads, some.shape[-1])
            mixed[:, :, chosen] = some
            del some  # or it would be held while the next ones are made
        assert mixed is not None
        rows = mixed.flatten(2).flatten(0, 1)
        base = None if residual is None else residual.flatten(0, 1)

        def project(part: slice) -> Tensor:
            around = None if base is None else base[part]
            return _surrounded(self.proj, rows[part], scale=scale, residual=around)

        return in_parts(rows, tokens_at_once(x.device), project).view(x.shape)

    def _by_queries(
        self,
        x: Tensor,
        rope: Rotation | None,
        norm: nn.LayerNorm | None,
        scale: LayerScale | None,
        residual: Tensor | None,
        keys: Tensor | None,
    ) -> Tensor:
        """The same with keys and values packed into 8 bits, a few heads at a time, and then queries
        a few frames at a time."""
        seen, places = x, rope
        if keys is not None:
            seen, places = x.index_select(1, keys), None if rope is None else rope.at(keys)
        packed = [
            (chosen, ops.pack_keys_values(*self._keys_values(seen, places, norm, chosen)))
            for chosen in self._few_heads()
        ]
        count, frame = seen.shape[1], 1 if rope is None else rope.positions
        del seen
        step = frame * max(1, tokens_at_once(x.device) // (frame * len(x)))
        made: Tensor | None = None
        for first in range(0, x.shape[1], step):
            part = slice(first, first + step)
            q = self._queries(x[:, part], rope, norm)
            mixed = torch.cat(
                [ops.packed_attention(q[:, own], held, count) for own, held in packed], dim=2
            )
            around = None if residual is None else residual[:, part]
            some = _surrounded(self.proj, mixed.flatten(2), scale=scale, residual=around)
            if made is None:
                made = some.new_empty(x.shape)
            made[:, part] = some
        assert made is not None
        return made

    def _few_heads(self) -> list[slice]:
        return [
            slice(first, first + _HEADS_AT_ONCE)
            for first in range(0, self.num_heads, _HEADS_AT_ONCE)
        ]

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Values mixed by attention, `[B, N, heads, D]`."""
        if self._runs_in_8_bits("int8_attention", q.device):
            return ops.int8_attention(q, k, v)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)

    def _runs_in_8_bits(self, operator: str, device: torch.device) -> bool:
        return self.arithmetic == "int8" and operator in kernel_path(device).operators


class MLP(nn.Module):
    """Two linear layers around an exact (erf) GELU."""

    def __init__(self, dim: int, hidden_dim: int, out_dim: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim if out_dim is None else out_dim)

    def forward(
        self,
        x: Tensor,
        *,
        norm: nn.LayerNorm | None = None,
        scale: LayerScale | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        hidden = _surrounded(self.fc1, x, norm=norm)
        return _surrounded(self.fc2, hidden, gelu=True, scale=scale, residual=residual)


class SwiGLU(nn.Module):
    """A gated feed-forward (Shazeer, "GLU Variants Improve Transformer", 2020): `w3(silu(a) * b)`,
    where `w12` gives (a | b).

    The hidden width is two thirds of `hidden_dim`, rounded up to a multiple of 8.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        width = (int(hidden_dim * 2 / 3) + 7) // 8 * 8
        self.w12 = nn.Linear(dim, 2 * width)
        self.w3 = nn.Linear(width, dim)

    def forward(
        self,
        x: Tensor,
        *,
        norm: nn.LayerNorm | None = None,
        scale: LayerScale | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        gate, value = _surrounded(self.w12, x, norm=norm).chunk(2, dim=-1)
        return _surrounded(self.w3, F.silu(gate) * value, scale=scale, residual=residual)


class Block(nn.Module):
    """Pre-norm transformer block: `x += ls1(attn(norm1(x)))`, then `x += ls2(mlp(norm2(x)))`.

    `gated` makes the feed-forward a `SwiGLU`. Without `init_values` there is no LayerScale.
    """

    normed: Mapping[str, str]
    """The linear layers whose input comes from a LayerNorm, and from which."""
    scaled: Mapping[str, str]
    """The linear layers whose output goes through a LayerScale, and through which."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        init_values: float | None = 0.01,
        qk_norm: bool = False,
        norm_eps: float = 1e-5,
        gated: bool = False,
    ) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads, qk_norm)
        self.ls1 = None if init_values is None else LayerScale(dim, init_values)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = SwiGLU(dim, hidden) if gated else MLP(dim, hidden)
        self.ls2 = None if init_values is None else LayerScale(dim, init_values)
        into, out_of = ("mlp.w12", "mlp.w3") if gated else ("mlp.fc1", "mlp.fc2")
        self.normed = {"attn.qkv": "norm1", into: "norm2"}
        self.scaled = {} if init_values is None else {"attn.proj": "ls1", out_of: "ls2"}

    def forward(
        self, x: Tensor, rope: Rotation | None = None, keys: Tensor | None = None
    ) -> Tensor:
        """Tokens `[B, N, C]` after the block; each looks at those with the indices `keys`, by
        default at all of its sequence."""
        if torch.is_grad_enabled():
            return self._mixed(self._attended(x, rope, keys))
        count = max(1, tokens_at_once(x.device) // x.shape[1])
        if len(x) <= count:
            return self._whole(x, rope, keys)
        return in_parts(torch.empty_like(x), count, lambda part: self._whole(x[part], rope, keys))

    def _whole(self, x: Tensor, rope: Rotation | None, keys: Tensor | None) -> Tensor:
        rows = self._attended(x, rope, keys).flatten(0, 1)
        count = tokens_at_once(x.device)
        if len(rows) <= count:
            return self._mixed(rows).view(x.shape)
        return in_parts(rows, count, lambda part: self._mixed(rows[part])).view(x.shape)

    def _attended(self, x: Tensor, rope: Rotation | None, keys: Tensor | None) -> Tensor:
        return self.attn(x, rope, norm=self.norm1, scale=self.ls1, residual=x, keys=keys)

    def _mixed(self, x: Tensor) -> Tensor:
        return self.mlp(x, norm=self.norm2, scale=self.ls2, residual=x)
