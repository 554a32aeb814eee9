"""Scores recipes on the demo model's test split; writes accuracy.json, accuracy.md and
accuracy.png.

    make report        (or: python -m benchmarks.accuracy --out benchmarks/results)

Sections: methods and bit widths; parts of DSFQ and of our recipe; methods on the same model with
outlier channels; parts of NFDS over five seeds, on candidates of which every sixth is ruined. A
section that is not asked for stays as it is if it was made with the same model. The same seeds give
the same figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy.experiments import EIGHT_BIT_BUDGET, SECTIONS, Experiment
from benchmarks.accuracy.figure import draw
from benchmarks.accuracy.tables import write_tables
from evaluation.evaluate import Comparison, compare
from evaluation.kept import kept
from evaluation.pose_metrics import AUC_THRESHOLDS
from evaluation.remembered import Remembered
from model import families
from model.files import provenance
from model.files.checkpoint import load_checkpoint
from model.reconstruct import geometry
from quantization.calibration import samples
from quantization.calibration.samples import Sample
from quantization.convert import quantize, reader
from quantization.nfds import select
from quantization.outlier_channels import SHARE, STRENGTH, with_outliers
from quantization.recipe import RECIPES
from quantization.sensitivity import measure, within_budget
from scenes.synthetic.generator import SyntheticScenes

FRAMES = 4
RUINED = 6  # every so many candidates


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument(
        "--scenes", type=int, default=200, help="test scenes (default: %(default)s)"
    )
    parser.add_argument(
        "--samples", type=int, default=32, help="calibration samples (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "accuracy.json"
    found = _earlier(path)
    for section in args.sections:
        found[section] = _Bench(section, args).run()
        found = {name: found[name] for name in SECTIONS if name in found}
        path.write_text(json.dumps(found, indent=1) + "\n")
        write_tables(found, args.out / "accuracy.md")
        draw(found, args.out / "accuracy.png")
    print((args.out / "accuracy.md").read_text())
    return 0


def _earlier(path: Path) -> dict[str, Any]:
    """Sections that an earlier run left, if they are of the model that is there now."""
    if not path.is_file():
        return {}
    checkpoint = provenance.describe("demo")["checkpoint_sha256"]
    earlier = json.loads(path.read_text()).items()
    return {
        name: section
        for name, section in earlier
        if name in SECTIONS and section["model"]["checkpoint_sha256"] == checkpoint
    }


class _Bench:
    """One section: the network, its calibration candidates, its test scenes."""

    def __init__(self, section: str, args: argparse.Namespace) -> None:
        self.section, self.args = section, args
        net = load_checkpoint("demo")
        self.net = with_outliers(net, args.seed) if section == "outliers" else net
        self.reference = Remembered(partial(geometry, self.net))
        self.family = families.of(net.config)
        grid = self.family.grid(net.config)
        side = grid.longer_side
        views = sorted({v for experiment in SECTIONS[section] for v in experiment.views})
        self.scenes = {
            v: list(SyntheticScenes("test", args.scenes, v, side, side, seed=args.seed))
            for v in views
        }
        self.pool, self.split = samples.candidates(
            samples.SYNTHETIC, grid, frames=FRAMES, pool=3 * args.samples, seed=args.seed
        )
        if section == "sampling":
            self.pool = [_ruined(s, i) if i % RUINED == 0 else s for i, s in enumerate(self.pool)]
        self.features = samples.describe(self.net.config, reader(self.net), self.pool)

    def run(self) -> dict[str, Any]:
        results = {}
        for number, experiment in enumerate(SECTIONS[self.section], start=1):
            started = time.monotonic()
            results[experiment.name] = self._score(experiment)
            spent = time.monotonic() - started
            progress = f"{self.section} {number}/{len(SECTIONS[self.section])}"
            print(f"{progress}: {experiment.name}, {spent:.0f} s", file=sys.stderr, flush=True)
        return {
            "command": f"python -m benchmarks.accuracy --sections {self.section} --scenes "
            f"{self.args.scenes} "
            f"--samples {self.args.samples} --seed {self.args.seed}",
            "model": provenance.describe("demo"),
            "outliers": {"strength": STRENGTH, "share": SHARE}
            if self.section == "outliers"
            else None,
            "test": {"split": "test", "scenes": self.args.scenes, "seed": self.args.seed},
            "calibration": {"split": self.split, "candidates": len(self.pool), "frames": FRAMES},
            "torch": torch.__version__,
            "results": results,
        }

    def _score(self, experiment: Experiment) -> dict[str, Any]:
        noise, diverse = samples.SAMPLINGS[experiment.sampling]
        chosen = select(
            self.features, self.args.samples, seed=experiment.seed, noise=noise, diverse=diverse
        )
        images = [self.pool[i].images for i in chosen]
        recipe = experiment.recipe
        if experiment.mixed:
            found = measure(self.net, images[:8], RECIPES["quarot"], "aggregator")
            recipe = replace(
                recipe, overrides=tuple((n, "w4a8") for n in within_budget(found, EIGHT_BIT_BUDGET))
            )
        started = time.monotonic()
        made = quantize(self.net.config, reader(self.net), recipe, images)
        for name, layer in made.wide.items() if experiment.wide else ():
            made.net.set_submodule(name, layer)
        answers = partial(geometry, made.net)
        seconds = time.monotonic() - started
        views = {
            str(v): _plain(
                compare(
                    self.reference, answers, self.scenes[v], seed=self.args.seed, label=f"{v} views"
                )
            )
            for v in experiment.views
        }
        ruined = sum(i % RUINED == 0 for i in chosen) if self.section == "sampling" else None
        return {
            "recipe": recipe.of(self.family).to_dict(),
            "sampling": experiment.sampling,
            "seed": experiment.seed,
            "ruined_samples": ruined,
            "quantising_s": round(seconds, 1),
            "views": views,
        }


def _ruined(sample: Sample, index: int) -> Sample:
    """A sample as a broken download gives it: frames of noise, of one colour, or all of another
    scene's colours."""
    generator = torch.Generator().manual_seed(index)
    images = sample.images.clone()
    if index % (3 * RUINED) == 0:
        images = torch.rand(images.shape, generator=generator)
    elif index % (3 * RUINED) == RUINED:
        images = torch.rand(1, 3, 1, 1, generator=generator).expand_as(images).clone()
    else:
        images = (images > 0.5).float()
    return replace(sample, images=images)


def _plain(comparison: Comparison) -> dict[str, Any]:
    shares = kept(comparison.reference, comparison.other)
    return {
        "full": comparison.reference.to_dict(records=False),
        "quantised": comparison.other.to_dict(records=False),
        "deviation": comparison.deviation.to_dict(records=False),
        "auc_kept": {
            str(t): (share := shares[f"auc_{t}"]) and asdict(share) for t in AUC_THRESHOLDS
        },
    }


if __name__ == "__main__":
    sys.exit(main())
