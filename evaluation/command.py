"""`quantvggt evaluate`: score a checkpoint or an artifact on scenes with ground truth."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evaluation import datasets
from evaluation.bootstrap import Interval
from evaluation.evaluate import compare, evaluate
from evaluation.figure import draw
from evaluation.pose_metrics import AUC_THRESHOLDS
from evaluation.report import Report, auc_retained
from model import families
from model.families.family import Geometry
from model.files import provenance
from model.files.artifact import load, read_manifest
from model.files.checkpoint import load_checkpoint, resolve_checkpoint
from model.files.manifest import MANIFEST
from model.network.network import Network
from model.reconstruct import geometry


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


def run(args: argparse.Namespace) -> int:
    """Evaluate and print; returns the exit status. Raises ValueError for arguments that ask for the
    impossible."""
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
    grid = families.of(subject.net.config).grid(subject.net.config)
    results: dict[str, dict[str, Any]] = {}
    reports: dict[tuple[str, str], Report] = {}
    for views in dict.fromkeys(args.views):
        opened = datasets.open_scenes(args, views, grid)
        options = _options(args, views, opened, *(s for s in (subject, reference) if s is not None))
        key = str(views)
        if reference is None:
            report = evaluate(subject.answer, opened.scenes, **options)
        else:
            found = compare(reference.answer, subject.answer, opened.scenes, **options)
            report = found.other
            reports[key, reference.name] = found.reference
        reports[key, subject.name] = report
        results[key] = {"model": report.to_dict()}
        if reference is not None:
            retained = {
                str(limit): auc_retained(found.reference, report, limit) for limit in AUC_THRESHOLDS
            }
            results[key]["reference"] = found.reference.to_dict()
            results[key]["deviation"] = found.deviation.to_dict()
            results[key]["auc_retained"] = {
                key: share and asdict(share) for key, share in retained.items()
            }

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
            {f"{key} views, {name}": report for (key, name), report in reports.items()},
            args.out / "report.png",
        )
        print(f"written: {args.out / 'report.json'}, {args.out / 'report.png'}", file=sys.stderr)
    print(json.dumps(document) if args.json else _table(reports, results))
    return 0


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


def _table(reports: Mapping[tuple[str, str], Report], results: Mapping[str, Any]) -> str:
    """The reports as aligned text: figures, below them the intervals, then what changed and what
    went wrong."""
    header = ["views", "model", *(f"AUC@{limit}" for limit in AUC_THRESHOLDS), "rot", "trans"]
    lines = [[*header, "AbsRel", "constant", "δ<1.25", "points", "point head"]]
    notes = []
    for (views, name), report in reports.items():
        angles = [
            *(report.auc[limit] for limit in AUC_THRESHOLDS),
            report.rotation_median,
            report.translation_median,
        ]
        shares = [
            report.abs_rel,
            report.constant_abs_rel,
            report.delta,
            report.point_error,
            report.point_head_error,
        ]
        lines.append(
            [views, name, *(_value(x, 1) for x in angles), *(_value(x, 3) for x in shares)]
        )
        lines.append(["", "", *(_range(x, 1) for x in angles), *(_range(x, 3) for x in shares)])
        for title, items in (("failed", report.failures), ("skipped", report.skipped)):
            notes += [
                f"{views} views, {name}: {title}: {scene} ({reason})" for scene, reason in items
            ]
        notes += [
            f"{views} views, {name}: no scene of category {missing}"
            for missing in report.missing_categories
        ]
        for quantity, found in (report.surface or {}).items():
            notes.append(
                f"{views} views, {name}: {quantity} {_value(found, 4)} [{_range(found, 4)}]"
            )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    text.append(
        "Second lines: 95 % bootstrap intervals over scenes. rot, trans: median error of a pair in "
        "degrees."
    )
    text.append(
        "constant: AbsRel of one depth everywhere. points: median error / scene scale after "
        "alignment."
    )
    return "\n".join(
        [*text, *(_moved(views, r) for views, r in results.items() if "deviation" in r), *notes]
    )


def _moved(views: str, result: Mapping[str, Any]) -> str:
    deviation, kept = result["deviation"], result["auc_retained"]["30"]
    units = {"rotation_deg": " degrees", "translation": "", "depth": "", "points": ""}
    parts = [
        f"{name.removesuffix('_deg')} {deviation[name]['value']:.3g}{units[name]}"
        for name in units
        if deviation[name]
    ]
    if kept is not None:
        parts.append(f"AUC@30 kept {kept['value']:.1f} % [{kept['low']:.1f}-{kept['high']:.1f}]")
    return f"{views} views, deviation from the reference: {', '.join(parts) or 'unknown'}"


def _value(found: Interval | None, digits: int) -> str:
    return "-" if found is None else f"{found.value:.{digits}f}"


def _range(found: Interval | None, digits: int) -> str:
    return "" if found is None else f"{found.low:.{digits}f}-{found.high:.{digits}f}"
