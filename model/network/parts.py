"""What lies between two layers of a block is several times as large as the tokens themselves, so
that only so many go through at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

# on a CPU those of a picture of 518 x 518 pixels, for its caches' sake
TOKENS_AT_ONCE = {"cpu": 1374, "cuda": 2**15}


_whole: ContextVar[bool] = ContextVar("whole", default=False)


def tokens_at_once(device: torch.device) -> int:
    """How many tokens go through a block at a time; all of them where gradients are asked for,
    which need what lies between anyway, and within `at_once`."""
    every = sys.maxsize
    whole = torch.is_grad_enabled() or _whole.get()
    return every if whole else TOKENS_AT_ONCE.get(device.type, every)


@contextmanager
def at_once() -> Iterator[None]:
    """Within the context all tokens go through a block at a time, so that every layer is called as
    a whole and can be watched."""
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)


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
