"""`quantvggt pairs`: score pairs of pictures by how far the camera turned between them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from evaluation.columns import right_aligned
from evaluation.command import Subject, load_subject
from evaluation.datasets import SPLIT
from evaluation.pairs import all_pairs, by_turn, pair_errors, predict_pairs, sideways
from model import families
from model.families.family import Grid
from model.progress import track
from scenes.readers.folder import read_folder
from scenes.synthetic.distribution import TEST_SETS
from scenes.synthetic.generator import render_batch

_RENDERED = 50  # scenes held at a time


def run(args: argparse.Namespace) -> int:
    """Score and print; returns the exit status. Raises ValueError for arguments that ask for the
    impossible."""
    if not args.sets and args.data is None:
        raise ValueError("nothing to score: give --sets, --data or both")
    if args.scenes < 1 or args.seed < 0:
        raise ValueError(
            f"--scenes is {args.scenes} and --seed {args.seed}; expected at least 1 and 0"
        )
    subject = load_subject(args.model, args.device)
    if SPLIT in subject.calibration_splits:
        raise ValueError(
            f"{args.model} was calibrated on the {SPLIT} split; its score would not be fair"
        )
    results: dict[str, Any] = {}
    grid = families.of(subject.net.config).grid(subject.net.config)
    for name, images, cameras in _sources(args, grid, subject):
        predicted = predict_pairs(subject.answer, images)
        results[name] = {
            "model": by_turn(pair_errors(predicted, cameras)),
            "sideways": by_turn(pair_errors(sideways(len(cameras)), cameras)),
        }
    document = {
        "model": {"name": subject.name, **subject.origin},
        "scenes": args.scenes,
        "seed": args.seed,
    }
    print(json.dumps({**document, "results": results}) if args.json else _table(results))
    return 0


def _sources(
    args: argparse.Namespace, grid: Grid, subject: Subject
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, images [P, 2, 3, H, W] and cameras [P, 2, 3, 4] of every set and folder. Raises
    ValueError for a scene that the subject was calibrated on."""
    side = grid.longer_side
    for name in args.sets:
        starts = range(args.seed, args.seed + args.scenes, _RENDERED)
        batches = [
            render_batch(
                range(start, min(start + _RENDERED, args.seed + args.scenes)),
                split=SPLIT,
                num_views=2,
                height=side,
                width=side,
                distribution=TEST_SETS[name],
            )
            for start in track(starts, name)
        ]
        yield (
            name,
            torch.cat([b.images for b in batches]),
            torch.cat([b.extrinsics for b in batches]),
        )
    if args.data is not None:
        recorded = read_folder(args.data, image_size=side, patch_size=grid.patch_size)
        for skipped, reason in recorded.skipped:
            print(f"{skipped} left out: {reason}", file=sys.stderr)
        for scene in recorded:
            subject.refuse(scene.name, scene.split)
            if len(scene.images) < 2:
                print(f"{scene.name} left out: a pair needs 2 frames", file=sys.stderr)
                continue
            pairs = all_pairs(len(scene.images))
            yield scene.name, scene.images[pairs], scene.extrinsics[pairs]


def _table(results: dict[str, Any]) -> str:
    lines = [["set", "turn", "pairs", "AUC@30", "rot", "trans", "sideways: AUC@30", "rot", "trans"]]
    for name, found in results.items():
        for bucket, ours in found["model"].items():
            trivial = found["sideways"][bucket]
            figures = [
                side[key]
                for side in (ours, trivial)
                for key in ("auc_30", "rotation_deg", "translation_deg")
            ]
            lines.append(
                [
                    name,
                    bucket,
                    str(ours["pairs"]),
                    *("-" if f is None else f"{f:.1f}" for f in figures),
                ]
            )
    text = right_aligned(lines)
    text.append(
        "turn: true rotation between the two frames. rot, trans: median errors. All angles in "
        "degrees."
    )
    text.append(
        "sideways: what the answer 'no rotation, a step to the side' scores without looking."
    )
    return "\n".join(text)
