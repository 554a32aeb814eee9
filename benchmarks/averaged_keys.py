"""Keys and values averaged over the cells of `model.network.keys`: not in the product, but what a
cell's one kept patch is compared with.

A mean stands for as many tokens as it was made of, so the logarithm of their number is added to its
scores. Keys and values of all tokens have to be computed for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model.network.attention import Attention
from model.network.network import Network
from model.network.surrounded import surrounded

CELLS = {2: (1, 2), 4: (2, 2), 8: (2, 4), 16: (4, 4)}
"""Rows and columns of patches, by factor."""


@contextmanager
def averaged(
    net: Network, factor: int, frames: int, grid: tuple[int, int], special: int
) -> Iterator[None]:
    """Within the context global blocks of `net` attend to means, of scenes of so many frames; the
    first frame and special tokens stay whole."""
    group = _groups(factor, frames, grid, special)
    attentions = [
        module
        for stage in net.blocks()
        if stage.kind == "global"
        for module in net.get_submodule(stage.name).modules()
        if isinstance(module, Attention)
    ]
    for attention in attentions:
        attention.forward = _averaging(attention, group)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for attention in attentions:
            del attention.forward


def _groups(factor: int, frames: int, grid: tuple[int, int], special: int) -> Tensor:
    """For each token of all frames the number of the key that it is averaged into."""
    height, width = CELLS[factor]
    row, column = torch.arange(grid[0])[:, None], torch.arange(grid[1])
    cells = (row // height * -(-grid[1] // width) + column // width).flatten()
    frame = torch.cat((torch.arange(special), special + cells))
    first = torch.arange(special + len(cells))
    later = [len(first) + k * (int(frame.max()) + 1) + frame for k in range(frames - 1)]
    return torch.cat((first, *later))


def _averaging(attention: Attention, group: Tensor) -> Any:
    count = torch.bincount(group).float()

    def mean(values: Tensor) -> Tensor:
        total = values.new_zeros(*values.shape[:2], len(count), values.shape[-1])
        return total.index_add_(2, group, values) / count[:, None]

    def forward(
        x: Tensor, rope: Any = None, *, norm: Any, scale: Any, residual: Tensor, keys: Any
    ) -> Tensor:
        q, k, v = attention.heads(x, rope, norm)
        bias = count.log()[None, None, None]
        mixed = F.scaled_dot_product_attention(q, mean(k), mean(v), attn_mask=bias)
        rows = mixed.transpose(1, 2).flatten(2)
        return surrounded(attention.proj, rows, scale=scale, residual=residual)

    return forward
