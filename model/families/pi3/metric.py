"""Pi3X's metric scale: one token looks at all tokens of the scene."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kernels.attention import attend
from model.families.pi3.config import Pi3Config
from model.families.pi3.heads import NORM_EPS
from model.network.rope import Rotation
from model.network.transformer import MLP


class _CrossAttention(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, query: Tensor, context: Tensor, rope: Rotation) -> Tensor:
        """The query stands at the origin, where nothing is rotated."""
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer, x in (
                (self.q_proj, query),
                (self.k_proj, context),
                (self.v_proj, context),
            )
        )
        mixed = attend(q, rope.apply(k), v)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class _CrossBlock(nn.Module):
    def __init__(self, dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.norm_y = nn.LayerNorm(dim, eps=NORM_EPS)
        self.cross_attn = _CrossAttention(dim, num_heads)
        self.norm3 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = MLP(dim, int(dim * mlp_ratio))

    def forward(self, query: Tensor, context: Tensor, rope: Rotation) -> Tensor:
        query = query + self.cross_attn(self.norm2(query), self.norm_y(context), rope)
        return query + self.mlp(self.norm3(query))


class MetricDecoder(nn.Module):
    """One query `[B, 1, 2C]` and the tokens of all views `[B, S * P, 2C]` to `[B, 1, metric_dim]`;
    `rope` is that of one view."""

    def __init__(self, config: Pi3Config) -> None:
        super().__init__()
        dim = config.metric_dim
        self.projects_x = nn.Linear(2 * config.embed_dim, dim)
        self.projects_y = nn.Linear(2 * config.embed_dim, dim)
        self.blocks = nn.ModuleList(
            _CrossBlock(dim, config.metric_heads, config.mlp_ratio)
            for _ in range(config.head_depth)
        )
        self.linear_out = nn.Linear(dim, dim)

    def forward(self, query: Tensor, tokens: Tensor, rope: Rotation) -> Tensor:
        query, context = self.projects_x(query), self.projects_y(tokens)
        for block in self.blocks:
            query = block(query, context, rope)
        return self.linear_out(query)


def metres(raw: Tensor) -> Tensor:
    """What the network's lengths are multiplied by, `[B]`, from `[B, 1, 1]`."""
    return torch.exp(raw.flatten())
