"""Softmax attention in floats, by whichever of torch's kernels is the fastest on a GPU."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from kernels.fastest import Fastest, fastest_on

BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
AS_TORCH = "as torch chooses"


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Values mixed for queries `[B, heads, T, D]` that look at keys and values `[B, heads, S, D]`,
    those of all tokens or of a few.

    On a GPU the first call of a shape measures torch's kernels, unless a graph is captured.
    """
    times = _times(q)
    if times is None:
        return F.scaled_dot_product_attention(q, k, v)
    batch, heads, queries, width = q.shape
    # one measurement up to twice as many of either
    about = " x ".join(f"{1 << (size - 1).bit_length()}" for size in (batch, queries, k.shape[2]))
    what = f"attention {about}, {heads} heads of {width}, {q.dtype}"
    way = times.chosen(what)
    if way is None:
        if q.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return F.scaled_dot_product_attention(q, k, v)
        ways = {name: partial(attend_by, name, q, k, v) for name in (AS_TORCH, *BACKENDS)}
        way = times.choose(what, ways)
    if way == AS_TORCH:
        return F.scaled_dot_product_attention(q, k, v)
    # the others behind it, should it not take all that the measured shape stands for
    order = [BACKENDS[way], *(b for name, b in BACKENDS.items() if name != way), SDPBackend.MATH]
    with sdpa_kernel(order, set_priority=True):
        return F.scaled_dot_product_attention(q, k, v)


def attend_by(name: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same by one of `BACKENDS` and no other, or `AS_TORCH`. Raises RuntimeError if it can't
    run here."""
    if name == AS_TORCH:
        return F.scaled_dot_product_attention(q, k, v)
    with sdpa_kernel(BACKENDS[name]):
        return F.scaled_dot_product_attention(q, k, v)


def _times(q: Tensor) -> Fastest | None:
    """Measured times, where there are several kernels: not on a CPU, nor for gradients."""
    if q.device.type != "cuda" or (q.requires_grad and torch.is_grad_enabled()) or 0 in q.shape:
        return None
    return fastest_on(torch.device("cuda", q.device.index))
