"""Step "attention": softmax attention of VGGT-1B by each kernel of torch and by the one that
the service's table chooses, and queries and keys by our kernel and as separate operations."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.gpu.linear import TOKENS_PER_FRAME
from benchmarks.gpu.rows import start
from benchmarks.gpu.timing import Call, measure
from kernels import reference
from kernels.attention import AS_TORCH, BACKENDS, attend, attend_by

HEADS, WIDTH = 16, 64
FRAMES = (1, 10, 32, 100)
GATHERED = 4  # of so many tokens one is a key, where attention looks at a few


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
        for what, batch, queries, keys in (
            ("frame", frames, tokens, tokens),
            ("global", 1, frames * tokens, frames * tokens),
            ("gathered keys", 1, frames * tokens, frames * tokens // GATHERED),
        ):
            q, k, v = (
                torch.randn(batch, HEADS, count, WIDTH, device=device).bfloat16()
                for count in (queries, keys, keys)
            )
            calls = {name: [partial(attend_by, name, q, k, v)] for name in (AS_TORCH, *BACKENDS)}
            calls["as measured"] = [partial(attend, q, k, v)]
            operations = 4 * batch * HEADS * queries * keys * WIDTH
            timings = measure(calls, device, rounds=3)
            step.write(what=what, frames=frames, operations=operations, timings=timings)


if __name__ == "__main__":
    main()
