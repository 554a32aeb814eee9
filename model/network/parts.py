"""What lies between two layers of a block is several times as large as the tokens themselves, so
that only so many go through at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor

# on a CPU those of a picture of 518 x 518 pixels, for its caches' sake
TOKENS_AT_ONCE = {"cpu": 1374, "cuda": 2**15}


def tokens_at_once(device: torch.device) -> int:
    """How many tokens go through a block at a time; all of them where gradients are asked for,
    which need what lies between anyway."""
    every = sys.maxsize
    return every if torch.is_grad_enabled() else TOKENS_AT_ONCE.get(device.type, every)


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
