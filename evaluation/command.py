"""`quantvggt evaluate`: score a checkpoint or an artifact on scenes with ground truth."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evaluation import datasets
from evaluation.bootstrap import RESAMPLES, Interval
from evaluation.evaluate import Deviation, compare, evaluate
from evaluation.fairness import refuse_calibration_data
from evaluation.figure import draw
from evaluation.kept import kept
from evaluation.raised import matching, raised
from evaluation.remembered import Remembered
from evaluation.report import Report
from evaluation.table import Row, table
from model import families
from model.families.family import Geometry
from model.files import provenance
from model.files.artifact import load, read_manifest
from model.files.checkpoint import load_checkpoint, resolve_checkpoint
from model.files.manifest import MANIFEST
from model.network.network import Network
from model.reconstruct import geometry
from scenes.scene import Scene

Answer = Callable[[Tensor], Geometry]
_RAISED = "8 bits: "


@dataclass(frozen=True)
class Subject:
    """A network to score and what it was calibrated on."""

    name: str
    net: Network
    origin: Mapping[str, Any]
    calibration_splits: tuple[str, ...] = ()
    calibration_scenes: tuple[str, ...] = ()

    def answer(self, images: Tensor) -> Geometry:
        return geometry(self.net, images)

    def refuse(self, scene: str, split: str) -> None:
        """Raises ValueError if it was calibrated on this scene or split."""
        refuse_calibration_data(scene, split, self.calibration_splits, self.calibration_scenes)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print; returns the exit status. Raises ValueError for arguments that ask for the
    impossible."""
    if args.bootstrap is None:
        args.bootstrap = RESAMPLES
    if args.bootstrap < 1:
        raise ValueError(f"--bootstrap is {args.bootstrap}; expected at least 1")
    datasets.check(args)
    torch.manual_seed(args.seed)
    subject = (
        load_subject(args.model, args.device, args.activations)
        if args.untrained is None
        else _untrained(args.model, args)
    )
    reference = (
        None
        if args.reference is None
        else load_subject(args.reference, args.device, args.activations)
    )
    wide = _wide(args, subject)
    grid = families.of(subject.net.config).grid(subject.net.config)
    results: dict[str, dict[str, Any]] = {}
    rows: list[Row] = []
    for views in dict.fromkeys(args.views):
        opened = datasets.open_scenes(args, views, grid)
        options = _options(args, views, opened, *(s for s in (subject, reference) if s is not None))
        answers = None if reference is None else reference.answer
        if answers is not None and args.only:
            answers = Remembered(answers)  # each pattern asks for them again; they are large

        scored = [_score(subject.name, answers, subject.answer, opened.scenes, options)]
        if wide is not None:
            for pattern in args.only:
                with raised(subject.net, wide, pattern):
                    name = f"{_RAISED}{pattern}"
                    scored.append(_score(name, answers, subject.answer, opened.scenes, options))
        if reference is not None and scored[0].reference is not None:
            rows.append(Row(str(views), reference.name, scored[0].reference))
        rows += [Row(str(views), s.name, s.report, s.kept, s.deviation) for s in scored]
        results[str(views)] = _document(scored)

    document = {
        "model": {"name": subject.name, **subject.origin},
        "reference": None if reference is None else {"name": reference.name, **reference.origin},
        "dataset": args.dataset,
        **opened.facts,
        "split": datasets.SPLIT,
        "seed": args.seed,
        "bootstrap": args.bootstrap,
        "device": args.device,
        "activations": args.activations,
        "torch": torch.__version__,
        "results": results,
    }
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "report.json").write_text(
            json.dumps(document, indent=1) + "\n", encoding="utf-8"
        )
        draw(
            {f"{row.views} views, {row.name}": row.report for row in rows},
            args.out / "report.png",
        )
        print(f"written: {args.out / 'report.json'}, {args.out / 'report.png'}", file=sys.stderr)
    print(json.dumps(document) if args.json else table(rows))
    return 0


@dataclass(frozen=True)
class Scored:
    """A network's scores, and beside a reference's what it keeps of them."""

    name: str
    report: Report
    reference: Report | None = None
    deviation: Deviation | None = None
    kept: Mapping[str, Interval | None] | None = None


def _score(
    name: str,
    reference: Answer | None,
    answer: Answer,
    scenes: Iterable[Scene],
    options: Mapping[str, Any],
) -> Scored:
    if reference is None:
        return Scored(name, evaluate(answer, scenes, **options))
    found = compare(reference, answer, scenes, **options)
    shares = kept(found.reference, found.other)
    return Scored(name, found.other, found.reference, found.deviation, shares)


def _document(scored: Sequence[Scored]) -> dict[str, Any]:
    """Plain data: the model, and what `--only` made of it by pattern."""

    def plain(one: Scored) -> dict[str, Any]:
        result: dict[str, Any] = {"model": one.report.to_dict()}
        if one.deviation is not None and one.kept is not None:
            result["deviation"] = one.deviation.to_dict()
            result["kept"] = {key: share and asdict(share) for key, share in one.kept.items()}
        return result

    first, *raised = scored
    document = plain(first)
    if first.reference is not None:
        document["reference"] = first.reference.to_dict()
    if raised:
        document["only"] = {one.name.removeprefix(_RAISED): plain(one) for one in raised}
    return document


def _wide(args: argparse.Namespace, subject: Subject) -> Network | None:
    """The artifact with 8-bit activations, for `--only`. Raises ValueError where it has none."""
    if not args.only:
        return None
    if args.activations == "8" or not (Path(args.model) / MANIFEST).is_file():
        raise ValueError(
            "--only gives layers of an artifact 8-bit activations: it takes the folder of an "
            "artifact as --model, and --activations 4"
        )
    wide = load_subject(args.model, args.device, "8").net
    for pattern in args.only:
        matching(subject.net, wide, pattern)
    return wide


def load_subject(name: str, device: str, activations: str = "4") -> Subject:
    """A checkpoint or an artifact; of the latter also what it was calibrated on.

    `activations`: bits of those that an artifact has in 4, "4" or "8".
    """
    if (Path(name) / MANIFEST).is_file():
        manifest = read_manifest(name)
        origin = {key: manifest[key] for key in ("recipe", "calibration", "provenance")}
        return Subject(
            Path(name).resolve().name,
            load(name, device=device, wide_activations=activations == "8"),
            origin,
            *_calibration(manifest),
        )
    _, config = resolve_checkpoint(name)
    # there is no ground truth for tracks
    heads = [head for head in config.heads if head != "track"]
    net = load_checkpoint(name, heads=heads, device=device)
    return Subject(Path(name).name, net, {"provenance": provenance.describe(name)})


def _calibration(manifest: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Splits and names of the scenes that an artifact was calibrated on; nothing for
    round-to-nearest."""
    calibration = manifest["calibration"]
    if calibration is None:
        return (), ()
    if not {"split", "scenes"} <= set(calibration):
        raise ValueError(
            "the artifact was calibrated, but its manifest does not say on which split and scenes; "
            "whether its score is fair cannot be known: quantise it again"
        )
    return (calibration["split"],), tuple(calibration["scenes"])


def _untrained(name: str, args: argparse.Namespace) -> Subject:
    config = (
        families.PRESETS[name] if name in families.PRESETS else load_subject(name, "cpu").net.config
    )
    torch.manual_seed(args.untrained)
    net = families.of(config).build(config).to(args.device).eval()
    return Subject(f"{Path(name).name} untrained", net, {"untrained_seed": args.untrained})


def _options(
    args: argparse.Namespace, views: int, opened: datasets.Opened, *subjects: Subject
) -> dict[str, Any]:
    return {
        "expected_categories": opened.expected_categories,
        "skipped": opened.skipped,
        "calibration_splits": [
            split for subject in subjects for split in subject.calibration_splits
        ],
        "calibration_scenes": [
            scene for subject in subjects for scene in subject.calibration_scenes
        ],
        "surface": args.surface,
        "resamples": args.bootstrap,
        "seed": args.seed,
        "label": f"{views} views",
    }
