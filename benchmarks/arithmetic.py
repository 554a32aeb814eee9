"""What 8-bit attention and bfloat16 dense heads cost in accuracy: the demo model's default artifact
with and without.

    python -m benchmarks.arithmetic --json benchmarks/results/cpu/arithmetic.json

Scores are those of the held-out synthetic scenes; deviations are from the same quantised network
with both switched off. Intervals are 95 % bootstrap intervals over scenes.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from benchmarks.timing import arguments, machine, write
from evaluation.evaluate import Comparison, compare
from model.files.checkpoint import load_checkpoint
from model.reconstruct import geometry
from quantization.convert import quantize_network
from quantization.recipe import Recipe
from scenes.synthetic.generator import SyntheticScenes

SWITCHES = {
    "8-bit attention": ("int8", "float32"),
    "bfloat16 heads": ("float", "bfloat16"),
    "both": ("int8", "bfloat16"),
}


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--views", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--scenes", type=int, default=200)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(args.threads[-1])
    full = load_checkpoint("demo")
    side = full.config.img_size
    report: dict[str, Any] = {"machine": machine(), "scenes": args.scenes, "views": {}}
    for views in args.views:
        scenes = SyntheticScenes("test", args.scenes, views, side, side, seed=0)
        report["views"][str(views)] = rows = {}
        for name, (attention, dense_heads) in SWITCHES.items():
            reference, other = (quantize_network(full, Recipe()) for _ in range(2))
            other.attention, other.dense_heads = attention, dense_heads
            found = compare(
                partial(geometry, reference),
                partial(geometry, other),
                scenes,
                seed=0,
                label=f"{name}, {views} views",
            )
            rows[name] = _plain(found)
            print(f"{views} views, {name}: {rows[name]}")
            write(args.json, report)
    return 0


def _plain(found: Comparison) -> dict[str, Any]:
    moved = found.deviation
    return {
        "auc_30": asdict(found.other.auc[30]),
        "auc_30_without": asdict(found.reference.auc[30]),
        "abs_rel": found.other.abs_rel and asdict(found.other.abs_rel),
        "abs_rel_without": found.reference.abs_rel and asdict(found.reference.abs_rel),
        "camera_turn_degrees": moved.rotation_deg and asdict(moved.rotation_deg),
        "depth_change": moved.depth and asdict(moved.depth),
    }


if __name__ == "__main__":
    sys.exit(main())
