"""The transformer block shared by the image encoder, the alternating attention and the camera
head."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.network.attention import Attention
from model.network.parts import in_parts, tokens_at_once
from model.network.rope import Rotation
from model.network.surrounded import LayerScale, surrounded


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
        hidden = surrounded(self.fc1, x, norm=norm)
        return surrounded(self.fc2, hidden, gelu=True, scale=scale, residual=residual)


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
        hidden = surrounded(self.w12, x, norm=norm)
        return surrounded(self.w3, hidden, gated=True, scale=scale, residual=residual)


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
