"""Attention on 8-bit codes against torch's, for one frame (frame attention) and four (global
attention) of VGGT-1B.

    python -m benchmarks.attention --json benchmarks/results/cpu/attention.json

Deviation is that of the output from float64 attention on normally distributed heads, as 1 - cosine.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import Call, arguments, compare, machine, table, write
from kernels import cpu, ops

HEADS, WIDTH, TOKENS = 16, 64, 1041


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 4])
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    report: dict[str, Any] = {"machine": machine(), "heads": HEADS, "width": WIDTH, "threads": {}}
    for threads in args.threads:
        torch.set_num_threads(threads)
        rows_of = report["threads"][str(threads)] = {}
        for frames in args.frames:
            tokens = frames * TOKENS
            rows = compare(candidates(tokens), args.rounds)
            table(f"{tokens} tokens, {threads} thread(s)", rows)
            rows_of[str(tokens)] = rows
    report["deviation"] = deviation()
    print(report["deviation"])
    write(args.json, report)
    return 0


def _heads(tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys of unit variance as qk-norm gives them, values as a strided view as a
    network gives them."""
    torch.manual_seed(0)
    qkv = torch.randn(1, tokens, 3, HEADS, WIDTH)
    q, k = (qkv[:, :, part].transpose(1, 2).contiguous() for part in (0, 1))
    return q, k, qkv[:, :, 2].transpose(1, 2)


def candidates(tokens: int) -> dict[str, Call]:
    q, k, v = _heads(tokens)
    half = [x.bfloat16() for x in (q, k, v)]
    calls: dict[str, Call] = {
        "torch float32": lambda: F.scaled_dot_product_attention(q, k, v),
        "torch bfloat16": lambda: F.scaled_dot_product_attention(*half),
    }

    def on(path: str) -> Call:
        def call() -> None:
            cpu.select(path)
            ops.int8_attention(q, k, v)

        return call

    return calls | {f"{path} int8": on(path) for path in cpu.available()}


def deviation() -> dict[str, float]:
    """1 - cosine of the output with float64 attention."""
    cpu.select()
    q, k, v = _heads(TOKENS)
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    others = {
        "torch bfloat16": F.scaled_dot_product_attention(q.bfloat16(), k.bfloat16(), v.bfloat16()),
        "int8": ops.int8_attention(q, k, v).transpose(1, 2),
    }
    return {
        name: round(
            1 - float(F.cosine_similarity(value.double().flatten(), exact.flatten(), dim=0)), 7
        )
        for name, value in others.items()
    }


if __name__ == "__main__":
    sys.exit(main())
