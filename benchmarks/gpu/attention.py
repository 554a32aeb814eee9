"""Step "attention": softmax attention of VGGT-1B by each backend of torch, and queries and keys by
our kernel and as separate operations."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu.linear import TOKENS_PER_FRAME
from benchmarks.gpu.rows import start
from benchmarks.gpu.timing import Call, measure
from kernels import reference

HEADS, WIDTH = 16, 64
FRAMES = (1, 10, 32, 100)
BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


def main() -> None:
    step = start("attention", __doc__)
    backend, device = step.backend(), step.device
    for frames in (2,) if step.small else FRAMES:
        tokens = 8 if step.small else TOKENS_PER_FRAME
        norm, table = (
            torch.rand(WIDTH, device=device),
            torch.rand(frames * tokens, WIDTH, device=device),
        )
        qkv = torch.randn(1, frames * tokens, 3, HEADS, WIDTH, device=device).bfloat16()
        given = (qkv, norm, norm, norm, norm, 1e-5, table, table)
        calls: dict[str, list[Call]] = {
            "our kernel": [partial(backend.qk_norm_rope, *given)],
            "separate": [partial(reference.qk_norm_rope, *given)],
        }
        step.write(what="queries and keys", frames=frames, timings=measure(calls, device))
        for what, shape in (
            ("frame", (frames, HEADS, tokens, WIDTH)),
            ("global", (1, HEADS, frames * tokens, WIDTH)),
        ):
            q, k, v = (torch.randn(shape, device=device).bfloat16() for _ in range(3))
            calls = {
                name: [partial(attend, backend, q, k, v)] for name, backend in BACKENDS.items()
            }
            calls["as torch chooses"] = [partial(F.scaled_dot_product_attention, q, k, v)]
            operations = 4 * shape[0] * HEADS * shape[2] ** 2 * WIDTH
            timings = measure(calls, device, rounds=3)
            step.write(what=what, frames=frames, operations=operations, timings=timings)


def attend(backend: SDPBackend, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    with sdpa_kernel(backend):
        return F.scaled_dot_product_attention(q, k, v)


if __name__ == "__main__":
    main()
