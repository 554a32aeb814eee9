"""`quantvggt evaluate --refine`: what refinement makes of networks, beside COLMAP alone."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from evaluation import datasets
from evaluation.columns import right_aligned
from evaluation.command import Subject, load_subject
from evaluation.pose_metrics import AUC_THRESHOLDS
from evaluation.refined import colmap, simulated
from evaluation.refined.picture_sets import PictureSet, on_disk, subsets, whole
from evaluation.refined.score import (
    Record,
    Summary,
    dense_score,
    network_depth_error,
    pose_record,
    summarise,
)
from model.progress import track
from model.reconstruct import reconstruct
from model.scene.reconstruction import Reconstruction
from refinement.options import RefineOptions
from refinement.photograph import photograph_of
from refinement.run import refine
from scenes.readers.colmap import read_colmap
from scenes.readers.folder import read_folder
from scenes.synthetic.distribution import SceneDistribution
from scenes.synthetic.generator import SyntheticScenes

READERS = {"folder": read_folder, "colmap": read_colmap}
COLMAP = "colmap"
COLMAP_ALONE = "COLMAP alone"
_SYNTHETIC_SIZE = (512, 512)
_SECONDS = 600  # what a service allows by default
_PICTURES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class _Start:
    """Where refinement starts from: a network, or one that is simulated."""

    name: str
    subject: Subject
    level: str | None = None

    def answer(self, pictures: PictureSet, seed: int) -> Reconstruction:
        found = reconstruct(self.subject.net, pictures.pictures)
        if self.level is None:
            return found
        return simulated.simulate(pictures, found, self.level, seed)


def check(args: argparse.Namespace) -> None:
    """Raises ValueError for options that do not go together."""
    if args.dataset != datasets.SYNTHETIC and args.dataset not in READERS:
        raise ValueError(
            f"--refine needs whole pictures: it takes --dataset {datasets.SYNTHETIC}, "
            f"{' or '.join(READERS)}, not {args.dataset}"
        )
    if args.subsets is not None and args.subsets < 1:
        raise ValueError(f"--subsets is {args.subsets}; expected at least 1")
    rendered = args.dataset == datasets.SYNTHETIC
    for option, given, wanted in (
        ("--subsets", args.subsets, not rendered),
        ("--movement", args.movement, rendered),
    ):
        if given is not None and not wanted:
            raise ValueError(f"{option} has no meaning for --dataset {args.dataset}; leave it out")
    if args.truth == COLMAP and args.dataset != "folder":
        raise ValueError("--truth colmap is for --dataset folder")


def run(args: argparse.Namespace) -> int:
    """Score and print; returns the exit status. Raises ValueError for arguments that ask for the
    impossible."""
    datasets.check(args)
    check(args)
    args.subsets = 1 if args.subsets is None else args.subsets
    args.movement = 1.0 if args.movement is None else args.movement
    subject = load_subject(args.model, args.device, args.activations)
    starts = [_Start(subject.name, subject)]
    if args.reference is not None:
        other = load_subject(args.reference, args.device, args.activations)
        starts.insert(0, _Start(other.name, other))
    starts += [_Start(level, subject, level) for level in args.simulated]
    if datasets.SPLIT in {split for start in starts for split in start.subject.calibration_splits}:
        raise ValueError(
            f"a model was calibrated on the {datasets.SPLIT} split; its score would not be fair"
        )
    results: dict[str, dict[str, Summary]] = {}
    records: dict[str, dict[str, list[Record]]] = {}
    notes: list[str] = []
    for views in dict.fromkeys(args.views):
        found: dict[str, list[Record]] = {}
        for pictures in track(_sets(args, views, starts, notes), f"{views} pictures"):
            for name, record in _score(args, pictures, starts):
                found.setdefault(name, []).append(record)
        records[str(views)] = found
        results[str(views)] = {name: summarise(scored) for name, scored in found.items()}
    document = {
        "model": {"name": subject.name, **subject.origin},
        "dataset": args.dataset,
        "data": None if args.data is None else args.data.resolve().name,
        "refine": args.refine,
        "subsets": args.subsets,
        "seed": args.seed,
        "movement": args.movement,
        "results": {
            views: {
                name: {**asdict(summary), "records": [asdict(r) for r in records[views][name]]}
                for name, summary in ways.items()
            }
            for views, ways in results.items()
        },
        "skipped": notes,
    }
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "refinement.json").write_text(json.dumps(document, indent=1) + "\n")
        print(f"written: {args.out / 'refinement.json'}", file=sys.stderr)
    print(json.dumps(document) if args.json else _table(results, notes))
    return 0


def _sets(
    args: argparse.Namespace, views: int, starts: Sequence[_Start], notes: list[str]
) -> Iterable[PictureSet]:
    """The sets of `views` pictures that the arguments ask for; what can't be used goes to
    `notes`. Raises ValueError for a scene that one of `starts` was calibrated on."""
    if args.dataset == datasets.SYNTHETIC:
        return _synthetic(args, views)
    found = []
    for pictures in _recorded(args, notes):
        for start in starts:
            start.subject.refuse(pictures.name, datasets.SPLIT)
        try:
            chosen = subsets(len(pictures.pictures), views, args.subsets, args.seed)
        except ValueError as reason:
            notes.append(f"{pictures.name}: {reason}")
            continue
        found += [pictures.pick(indices) for indices in chosen]
    if not found:
        raise ValueError(f"{args.data}: no set of {views} pictures: {'; '.join(notes)}")
    return found


def _synthetic(args: argparse.Namespace, views: int) -> Iterator[PictureSet]:
    height, width = args.size or _SYNTHETIC_SIZE
    count = args.scenes or datasets.SYNTHETIC_SCENES
    rooms = SceneDistribution(movement=args.movement)
    for scene in SyntheticScenes(datasets.SPLIT, count, views, height, width, args.seed, rooms):
        with on_disk(scene) as pictures:
            yield pictures


def _recorded(args: argparse.Namespace, notes: list[str]) -> Iterator[PictureSet]:
    if args.truth == COLMAP:
        yield from _solved(args, notes)
        return
    recorded = READERS[args.dataset](args.data, image_size=64, patch_size=1)
    notes += [f"{name}: {reason}" for name, reason in recorded.skipped]
    for recording in recorded.recordings[: args.scenes]:
        yield whole(recording)


def _solved(args: argparse.Namespace, notes: list[str]) -> Iterator[PictureSet]:
    """Folders of pictures; what COLMAP makes of all pictures of a folder is taken as true."""
    folders = sorted(path for path in (args.data, *args.data.iterdir()) if path.is_dir())
    for folder in folders:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURES)
        if len(paths) < 2:
            continue
        solved = colmap.solve(paths)
        placed = np.flatnonzero(solved.placed)
        if len(placed) < len(paths):
            notes.append(f"{folder.name}: COLMAP placed {len(placed)} of {len(paths)} pictures")
        if len(placed) < 2:
            continue
        everything = PictureSet(
            folder.resolve().name, "folder", tuple(paths), solved.extrinsics, solved.intrinsics
        )
        yield replace(everything.pick(placed.tolist()), name=everything.name)


def _score(
    args: argparse.Namespace, pictures: PictureSet, starts: Sequence[_Start]
) -> Iterator[tuple[str, Record]]:
    """One record for every way to reconstruct these pictures, with its name."""
    if args.colmap:
        solved = colmap.solve(pictures.pictures)
        yield COLMAP_ALONE, pose_record(pictures, solved.extrinsics, solved.placed, solved.seconds)
    photographs = [photograph_of(path) for path in pictures.pictures]
    for start in starts:
        began = time.perf_counter()
        network = start.answer(pictures, args.seed)
        seconds = time.perf_counter() - began
        count = len(photographs)
        all_placed = np.ones(count, bool)
        own = pose_record(pictures, network.extrinsics.double().numpy(), all_placed, seconds)
        depth = [network.original_depth(i).numpy() for i in range(count)]
        yield start.name, replace(own, abs_rel=network_depth_error(pictures, depth))

        began = time.perf_counter()
        found = refine(photographs, network, args.refine, RefineOptions(seconds=_SECONDS))
        seconds = time.perf_counter() - began
        extrinsics = np.stack([picture.extrinsic for picture in found.pictures])
        placed = np.array([picture.source == "refined" for picture in found.pictures])
        record = pose_record(pictures, extrinsics, placed, seconds)
        record = replace(
            record,
            support=found.support,
            reason=None if found.reason is None else found.reason.code,
        )
        dense = dense_score(pictures, found)
        yield (
            f"{start.name}, refined",
            record if dense is None else replace(record, **asdict(dense)),
        )


def _table(results: Mapping[str, Mapping[str, Summary]], notes: Sequence[str]) -> str:
    """The summaries as aligned text, then what they mean and what was left out."""
    lines = [["views", "cameras of", "sets", *(f"AUC@{limit}" for limit in AUC_THRESHOLDS)]]
    lines[0] += ["placed", "support", "AbsRel", "verified", "median", "share", "points", "seconds"]
    for views, ways in results.items():
        for name, found in ways.items():
            lines.append(
                [
                    views,
                    name,
                    str(found.sets),
                    *(f"{found.auc[limit]:.1f}" for limit in AUC_THRESHOLDS),
                    f"{100 * found.placed:.0f} %",
                    _value(found.support, 2),
                    _value(found.abs_rel, 4),
                    _value(found.verified_abs_rel, 4),
                    _value(found.verified_median, 4),
                    _value(found.coverage, 2),
                    _value(found.points, 0),
                    f"{found.seconds:.1f}",
                ]
            )
    text = right_aligned(lines)
    text.append(
        "placed: pictures with cameras of their own. support: verified matches that the cameras "
        "satisfy."
    )
    text.append(
        "AbsRel: depth of all pixels; verified, median: error of verified pixels, their share, "
        "their number."
    )
    return "\n".join([*text, *notes])


def _value(found: float | None, digits: int) -> str:
    return "-" if found is None else f"{found:.{digits}f}"
