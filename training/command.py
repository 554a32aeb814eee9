"""`python -m quantization demo`: train the demo model, export it, render the sample pictures."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from model.files.checkpoint import DEMO_CHECKPOINT
from scenes.readers.folder import write_folder
from scenes.synthetic.generator import SyntheticScenes
from training.curve import plot_curve
from training.recipes import RECIPES
from training.trainer import TrainingConfig, export, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's own sub-commands."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    training = commands.add_parser("train", help="train from scratch, or go on from the state in --out")
    defaults = TrainingConfig()
    training.add_argument("--out", type=Path, required=True, help="folder of the training state and log")
    training.add_argument(
        "--recipe",
        choices=RECIPES,
        default="rooms",
        help="rooms: standard rooms, from scratch or with --start; free: from rooms to free cameras, 20 hours of a "
        "core; free-gpu: the same in minutes of a large GPU; default: %(default)s",
    )
    training.add_argument("--steps", type=int, help="default: the recipe's")
    training.add_argument("--seed", type=int, default=defaults.seed, help="default: %(default)s")
    training.add_argument("--start", metavar="CHECKPOINT", help="start from these weights, for example demo")
    training.add_argument(
        "--processes", type=int, default=defaults.processes, help="cores to use; default: %(default)s"
    )
    training.add_argument("--minutes", type=float, help="stop after this long with the state saved; run again to go on")
    training.add_argument(
        "--fit-minutes",
        type=float,
        metavar="M",
        help="choose the number of steps by the measured speed, so that the whole run takes this long",
    )
    training.add_argument("--device", default="cpu", help="default: %(default)s")
    training.set_defaults(run=_train)

    exporting = commands.add_parser("export", help="write a run's averaged weights as a checkpoint, and its curve")
    exporting.add_argument("--run", dest="folder", type=Path, required=True, help="folder of the training state")
    exporting.add_argument("--out", type=Path, default=DEMO_CHECKPOINT, help="default: the bundled checkpoint")
    exporting.set_defaults(run=_export)

    samples = commands.add_parser("samples", help="render the sample pictures from a scene that training never sees")
    samples.add_argument("--out", type=Path, required=True)
    samples.add_argument("--seed", type=int, default=3, help="default: %(default)s, the bundled scene")
    samples.add_argument("--views", type=int, default=4, help="default: %(default)s")
    samples.add_argument("--size", type=int, nargs=2, default=(384, 384), metavar=("HEIGHT", "WIDTH"))
    samples.set_defaults(run=_samples)
    for command in (training, exporting, samples):
        command.add_argument("--json", action="store_true", help="print the result as JSON")


def _train(args: argparse.Namespace) -> int:
    given = {name: getattr(args, name) for name in ("steps", "seed", "start", "processes")}
    config = dataclasses.replace(RECIPES[args.recipe], **{k: v for k, v in given.items() if v is not None})
    if config.start is not None:  # trained weights need no easy start
        config = dataclasses.replace(config, batches=dataclasses.replace(config.batches, easy_fraction=0.0))
    train(config, args.out, minutes=args.minutes, fit_minutes=args.fit_minutes, device=args.device)
    return _done(args)


def _export(args: argparse.Namespace) -> int:
    export(args.folder, args.out)
    plot_curve(args.folder, args.out / "curve.png")
    return _done(args)


def _samples(args: argparse.Namespace) -> int:
    height, width = args.size
    scene = SyntheticScenes("test", 1, args.views, height, width, seed=args.seed)[0]
    write_folder(scene, args.out)
    return _done(args)


def _done(args: argparse.Namespace) -> int:
    print(json.dumps({"out": str(args.out)}) if args.json else args.out)
    return 0
