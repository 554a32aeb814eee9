"""Multi-head self-attention, in float or on 8-bit codes, over a few tokens or those of a scene."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kernels import kernel_path, ops
from kernels.attention import attend
from model.network.parts import in_parts, tokens_at_once
from model.network.rope import Rotation
from model.network.surrounded import LayerScale, surrounded

ATTENTION = ("float", "int8")
_HEADS_AT_ONCE = 4  # where attention is over more tokens than go through a block at a time
_ALL = slice(None)


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
        made = surrounded(self.qkv, x, norm=norm, outputs=outputs)
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
            return surrounded(self.proj, mixed.flatten(2), scale=scale, residual=residual)
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
            return surrounded(self.proj, rows[part], scale=scale, residual=around)

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
            some = surrounded(self.proj, mixed.flatten(2), scale=scale, residual=around)
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
        return attend(q, k, v).transpose(1, 2)

    def _runs_in_8_bits(self, operator: str, device: torch.device) -> bool:
        return self.arithmetic == "int8" and operator in kernel_path(device).operators
