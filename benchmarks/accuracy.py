"""Accuracy of the demo model: full precision against every recipe on the test split, with bootstrap intervals.

    make report        (or: python -m benchmarks.accuracy --out benchmarks/results)

Writes accuracy.json, accuracy.md and accuracy.png. The same seed gives the same figures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from model import VGGT, Prediction
from model.checkpoint import load_checkpoint
from quantization import provenance
from quantization.convert import quantize_network
from quantization.data.synthetic import SyntheticScenes
from quantization.evaluation.bootstrap import Interval
from quantization.evaluation.evaluate import Comparison, compare
from quantization.evaluation.report import auc_retained
from quantization.recipe import Recipe

RECIPES = {
    "w8a8": Recipe(aggregator="w8a8", image_encoder="w8a8", camera_head="w8a8"),
    "w4a4 (default)": Recipe(),
    "w4a4, no rotation": Recipe(rotate=False),
}
FULL = "full precision"


class _Remembered:
    """A network that computes its answer to the same pictures only once."""

    def __init__(self, net: VGGT) -> None:
        self._net = net
        self._answers: dict[bytes, Prediction] = {}

    def __call__(self, images: Tensor) -> Prediction:
        key = hashlib.sha256(images.numpy().tobytes()).digest()
        if key not in self._answers:
            self._answers[key] = self._net(images)
        return self._answers[key]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--views", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    net = load_checkpoint("demo")
    side = net.config.img_size
    quantised = {name: quantize_network(net, recipe) for name, recipe in RECIPES.items()}
    found: dict[int, dict[str, Comparison]] = {views: {} for views in args.views}
    for views in args.views:
        scenes = SyntheticScenes("test", args.scenes, views, side, side, seed=args.seed)
        reference = _Remembered(net)
        for name, other in quantised.items():
            found[views][name] = compare(reference, other, scenes, seed=args.seed, label=f"{name}, {views} views")

    args.out.mkdir(parents=True, exist_ok=True)
    document = {
        "command": f"python -m benchmarks.accuracy --views {' '.join(map(str, args.views))} "
        f"--scenes {args.scenes} --seed {args.seed}",
        "model": provenance.describe("demo"),
        "split": "test",
        "scenes": args.scenes,
        "seed": args.seed,
        "torch": torch.__version__,
        "recipes": {name: recipe.to_dict() for name, recipe in RECIPES.items()},
        "results": {str(views): _plain(by_name) for views, by_name in found.items()},
    }
    (args.out / "accuracy.json").write_text(json.dumps(document, indent=1) + "\n")
    table = _table(found, args.scenes)
    (args.out / "accuracy.md").write_text(f"`{document['command']}`\n\n{table}\n")
    _draw(found, args.out / "accuracy.png")
    print(table)
    return 0


def _plain(by_name: Mapping[str, Comparison]) -> dict[str, Any]:
    first = next(iter(by_name.values()))
    result: dict[str, Any] = {FULL: first.reference.to_dict(records=False)}
    for name, comparison in by_name.items():
        retained = auc_retained(comparison.reference, comparison.other)
        result[name] = {
            **comparison.other.to_dict(records=False),
            "deviation": comparison.deviation.to_dict(records=False),
            "auc_30_retained": retained and asdict(retained),
        }
    return result


def _table(found: Mapping[int, Mapping[str, Comparison]], scenes: int) -> str:
    lines = [
        f"{scenes} held-out scenes for each number of views; in brackets 95 % bootstrap intervals over scenes.",
        "",
        "| views | scheme | AUC@30 | kept, % | AbsRel | camera turn, ° | depth change |",
        "|---|---|---|---|---|---|---|",
    ]
    for views, by_name in found.items():
        full = next(iter(by_name.values())).reference
        lines.append(f"| {views} | {FULL} | {_cell(full.auc[30], 1)} | | {_cell(full.abs_rel, 3)} | | |")
        for name, comparison in by_name.items():
            other, moved = comparison.other, comparison.deviation
            kept = auc_retained(comparison.reference, other)
            lines.append(
                f"| {views} | {name} | {_cell(other.auc[30], 1)} | {_cell(kept, 1)} | {_cell(other.abs_rel, 3)} | "
                f"{_cell(moved.rotation_deg, 2)} | {_cell(moved.depth, 3)} |"
            )
    lines += ["", "Camera turn and depth change are deviations from full precision on the same scenes."]
    return "\n".join(lines)


def _cell(interval: Interval | None, digits: int) -> str:
    if interval is None:
        return "-"
    return f"{interval.value:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _draw(found: Mapping[int, Mapping[str, Comparison]], path: Path) -> None:
    mpl.use("Agg")
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = [FULL, *RECIPES]
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        for axes, pick in ((left, _auc), (right, _depth_change)):
            values = [pick(name, by_name) for by_name in found.values()]
            at = [k + (i - len(names) / 2 + 0.5) * width for k in range(len(values))]
            heights = [v.value if v else 0.0 for v in values]
            spread = [[v.value - v.low if v else 0 for v in values], [v.high - v.value if v else 0 for v in values]]
            axes.bar(at, heights, width, yerr=spread, label=name, color=f"C{i}", error_kw={"elinewidth": 1})
    for axes, title in ((left, "relative pose AUC@30"), (right, "depth change from full precision")):
        axes.set_title(title)
        axes.set_xticks(range(len(found)), [f"{views} views" for views in found])
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(names), frameon=False)
    figure.savefig(path, dpi=110)


def _auc(name: str, by_name: Mapping[str, Comparison]) -> Interval:
    return next(iter(by_name.values())).reference.auc[30] if name == FULL else by_name[name].other.auc[30]


def _depth_change(name: str, by_name: Mapping[str, Comparison]) -> Interval | None:
    return None if name == FULL else by_name[name].deviation.depth


if __name__ == "__main__":
    sys.exit(main())
