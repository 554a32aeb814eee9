"""`quantvggt demo`: the whole path on sample pictures; and how the bundled demo model is made."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from quantvggt import choices
from quantvggt.commands.offline import offline
from quantvggt.errors import BadInputError
from quantvggt.packages import packages_folder

HELP = "serve, post sample pictures, check the cameras; train the demo model"
EXTRA = "service,quantization"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options, and the sub-commands that make the demo model."""
    parser.description = (
        "Start a service, post the sample pictures, leave every result and an overview in a "
        "folder, and compare the cameras with the known ones. With a sub-command: make the "
        "bundled demo model."
    )
    parser.add_argument("--artifact", type=Path, help="folder of the quantised model")
    parser.add_argument(
        "--samples",
        help=f"{' or '.join(choices.SAMPLES)}, the bundled pictures, or a folder of pictures with "
        "cameras.json (default: still-life with --refine, else rooms, which the demo model knows)",
    )
    parser.add_argument(
        "--out", type=Path, help="folder to write; what an earlier demo left there is replaced"
    )
    parser.add_argument(
        "--refine",
        choices=choices.REFINE,
        default="off",
        help="what to refine on the original pixels (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.set_defaults(demo=_show)

    commands = parser.add_subparsers(metavar="{train,export,samples}")
    train = commands.add_parser(
        "train", help="train from scratch, or go on from the state in --out"
    )
    train.add_argument(
        "--out", type=Path, required=True, help="folder of the training state and log"
    )
    train.add_argument(
        "--recipe",
        choices=choices.TRAINING_RECIPES,
        default="rooms",
        help="rooms: standard rooms, from scratch or with --start; free: from rooms to free "
        "cameras, 20 hours of a core; mixed: the same with more rooms, 1.5 hours of a core; "
        "further: on from weights that know free cameras; free-gpu: free in minutes of a large "
        "GPU; default: rooms",
    )
    train.add_argument("--steps", type=int, help="default: the recipe's")
    train.add_argument("--seed", type=int, help=f"default: {choices.TRAINING_SEED}")
    train.add_argument(
        "--start", metavar="CHECKPOINT", help="start from these weights, for example demo"
    )
    train.add_argument(
        "--processes", type=int, help=f"cores to use; default: {choices.TRAINING_PROCESSES}"
    )
    train.add_argument(
        "--minutes",
        type=float,
        help="stop after this long with the state saved; run again to go on",
    )
    train.add_argument(
        "--fit-minutes",
        type=float,
        metavar="M",
        help="choose the number of steps by the measured speed, so that the run takes this long",
    )
    train.add_argument("--device", default="cpu", help="default: %(default)s")
    train.set_defaults(demo=_train)

    export = commands.add_parser(
        "export", help="write a run's averaged weights as a checkpoint, and its curve"
    )
    export.add_argument(
        "--run", dest="folder", type=Path, required=True, help="folder of the training state"
    )
    export.add_argument("--out", type=Path, help="default: the bundled checkpoint")
    export.set_defaults(demo=_export)

    samples = commands.add_parser(
        "samples", help="render the sample pictures from a scene that training never sees"
    )
    samples.add_argument("--out", type=Path, required=True, help="folder to write")
    samples.add_argument(
        "--seed", type=int, default=3, help="default: %(default)s, the bundled scene"
    )
    samples.add_argument("--views", type=int, default=4, help="default: %(default)s")
    samples.add_argument(
        "--size", type=int, nargs=2, default=(384, 384), metavar=("HEIGHT", "WIDTH")
    )
    samples.set_defaults(demo=_samples)
    for command in (train, export, samples):
        command.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> int:
    """Run the demo, or the sub-command."""
    status: int = options.demo(options)
    return status


def _show(options: argparse.Namespace) -> int:
    if options.artifact is None or options.out is None:
        raise BadInputError(
            "the demo needs --artifact and --out; "
            "make an artifact with `quantvggt quantize demo --calibration synthetic --out artifact`"
        )
    from quantvggt.demo.run import run_demo

    named = options.samples or ("rooms" if options.refine == "off" else "still-life")
    samples = Path(named)
    if named in choices.SAMPLES:
        samples = packages_folder() / "service" / "samples" / named
    found = run_demo(
        options.artifact,
        samples,
        options.out,
        lambda line: print(line, file=sys.stderr, flush=True),
        options.refine,
    )
    if options.json:
        print(json.dumps(found))
        return 0
    rotation = found["median_rotation_error_degrees"]
    translation = found["median_translation_direction_error_degrees"]
    print(f"{found['pictures']} pictures, {found['points']} points")
    refinement = found["refinement"]
    if refinement is not None:
        print(f"{refinement['kept']} cameras refined on the original pixels")
    print(f"cameras against the known ones, median of {len(found['pairs'])} pairs:")
    print(f"  rotation {rotation:.1f} degrees, translation direction {translation:.1f} degrees")
    for name in found["files"]:
        print(f"  {options.out / name}")
    print(
        f"to turn the points in a browser: quantvggt serve --artifact {options.artifact}, then open"
    )
    print("http://127.0.0.1:8000/")
    print(f"everything lies in {options.out}")
    return 0


def _train(options: argparse.Namespace) -> int:
    from training import TrainingError
    from training.command import train

    with offline(options.device, TrainingError):
        train(options)
    return _done(options.out, options)


def _export(options: argparse.Namespace) -> int:
    from training import TrainingError
    from training.command import export

    with offline(None, TrainingError):
        out = export(options)
    return _done(out, options)


def _samples(options: argparse.Namespace) -> int:
    from training.command import render_samples

    with offline():
        render_samples(options)
    return _done(options.out, options)


def _done(out: Path, options: argparse.Namespace) -> int:
    print(json.dumps({"out": str(out)}) if options.json else out)
    return 0
