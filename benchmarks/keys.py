"""What a budget of attention keys costs in accuracy, on walks round synthetic rooms.

    python -m benchmarks.keys [--model build/demo/artifact] [--views 32] [--scenes 30] [--json FILE]

Every factor of `model.network.keys` runs on the same scenes as exact attention: AUC@30, its change
against exact with a paired 95 % bootstrap interval over scenes, and how far depth moves (median
over pixels of |log ratio|, mean over scenes).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import machine, write
from evaluation.bootstrap import Interval, interval, mean_over_scenes
from evaluation.pose_metrics import pose_auc, relative_pose_errors
from model import families
from model.files.artifact import load
from model.files.checkpoint import load_checkpoint
from model.files.manifest import MANIFEST
from model.network.keys import FACTORS, kept_tokens
from model.network.network import Network
from model.progress import track
from scenes.synthetic.walk import walk


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--model", default="demo", help="checkpoint or artifact (default the bundled demo model)"
    )
    parser.add_argument("--views", type=int, default=32, help="frames of a walk, a turn of 360°")
    parser.add_argument("--scenes", type=int, default=30)
    parser.add_argument(
        "--seed", type=int, default=1000, help="of the first scene of the test split"
    )
    parser.add_argument("--factors", type=int, nargs="+", choices=FACTORS, default=FACTORS[1:])
    parser.add_argument("--attention", choices=("float", "int8"), help="other arithmetic")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    net = load(args.model) if Path(args.model, MANIFEST).exists() else load_checkpoint(args.model)
    if args.attention:
        net.attention = args.attention
    report: dict[str, Any] = {
        "machine": machine(),
        "model": args.model,
        "attention": net.attention,
        "views": args.views,
        "scenes": args.scenes,
        "seed": args.seed,
        "factors": compare(
            net, args.views, range(args.seed, args.seed + args.scenes), (1, *args.factors)
        ),
    }
    write(args.json, report)
    return 0


def compare(
    net: Network, views: int, seeds: range, factors: tuple[int, ...]
) -> dict[str, dict[str, Any]]:
    """Figures of each factor, the first of which is exact; prints them."""
    family = families.of(net.config)
    grid = family.grid(net.config)
    side = grid.longer_side // grid.patch_size
    special = family.special_tokens(net.config)
    # a budget that is just enough for the factor, and too small for the one before
    budgets = {f: len(kept_tokens(f, views, side, side, special)) + 1 for f in factors}
    auc: dict[int, list[float]] = {factor: [] for factor in factors}
    moved: dict[int, list[float]] = {factor: [] for factor in factors}
    for seed in track(seeds, f"{views} views"):
        scene = walk(seed, views, views, grid.longer_side)
        exact: Tensor | None = None
        for factor in factors:
            prediction = net(scene.images, attention_keys=budgets[factor])
            found = family.decode(
                prediction.map(lambda values: values[0].double()), (side * grid.patch_size,) * 2
            )
            assert found.extrinsics is not None
            assert found.depth is not None
            auc[factor].append(
                pose_auc(*relative_pose_errors(found.extrinsics, scene.extrinsics), 30)
            )
            exact = found.depth if exact is None else exact
            moved[factor].append(float((found.depth / exact).log().abs().median()))
    figures: dict[str, dict[str, Any]] = {}
    for factor in factors:
        change = [a - b for a, b in zip(auc[factor], auc[factors[0]], strict=True)]
        own, against = (interval(mean_over_scenes(v), len(seeds)) for v in (auc[factor], change))
        name = f"1 of {factor}"
        figures[name] = {
            "auc_30": _listed(own),
            "change": _listed(against),
            "depth_moved": round(sum(moved[factor]) / len(seeds), 4),
            "keys": budgets[factor] - 1,
        }
        print(f"{name:8} {figures[name]}", flush=True)
    return figures


def _listed(found: Interval) -> list[float]:
    return [round(value, 2) for value in (found.value, found.low, found.high)]


if __name__ == "__main__":
    raise SystemExit(main())
