"""`python -m quantization quantize`: a float checkpoint in, a packed artifact and a report out."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from model import families
from model.files import artifact, provenance
from model.files.checkpoint import HUB_FORMS, build_empty, match, open_checkpoint
from model.network.dpt_head import ARITHMETIC as DENSE_HEADS
from model.network.transformer import ATTENTION
from quantization.calibration import report, samples
from quantization.calibration.store import StageStore
from quantization.convert import quantize
from quantization.recipe import RECIPES, SCHEMES, Recipe

WITHOUT_CALIBRATION, WITH_CALIBRATION = "quarot", "best"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("checkpoint", nargs="?", help=f"'demo', a weights file, a folder, or {HUB_FORMS}")
    parser.add_argument("--checkpoint", dest="checkpoint_option", metavar="CHECKPOINT", help="the same as an option")
    parser.add_argument("--out", type=Path, required=True, help="folder of the artifact")
    parser.add_argument(
        "--recipe",
        choices=RECIPES,
        help=f"default: {WITH_CALIBRATION} with --calibration, else {WITHOUT_CALIBRATION}",
    )
    for part in families.PARTS:
        parser.add_argument(
            f"--{part.replace('_', '-')}",
            choices=SCHEMES,
            help="scheme of this part, if not the recipe's",
        )
    parser.add_argument(
        "--overrides",
        type=Path,
        metavar="FILE",
        help="JSON of single layers and their schemes, as `sensitivity` writes",
    )
    parser.add_argument("--attention", choices=ATTENTION, help="arithmetic of attention, if not the recipe's")
    parser.add_argument("--dense-heads", choices=DENSE_HEADS, help="arithmetic of the dense heads, if not the recipe's")
    parser.add_argument("--no-rotation", action="store_true", help="skip the Hadamard rotation")
    parser.add_argument("--propagate", choices=("quantised", "float"), help="inputs of a block while it is quantised")
    parser.add_argument("--seed", type=int, default=0, help="rotations and calibration samples (default: %(default)s)")

    data = parser.add_argument_group("calibration data")
    data.add_argument(
        "--calibration",
        metavar="SOURCE",
        help=f"{samples.SYNTHETIC}, {', '.join(samples.READERS)} (with --data), or a folder of photographs",
    )
    data.add_argument("--data", type=Path, metavar="PATH", help="folder of the data set that --calibration names")
    data.add_argument("--samples", type=int, default=20, help="scenes to calibrate on (default: %(default)s)")
    data.add_argument("--frames", type=int, default=4, help="pictures of each (default: %(default)s)")
    data.add_argument(
        "--pool", type=int, help="candidates that the samples are chosen from (default: five times as many)"
    )
    data.add_argument("--sampling", choices=samples.SAMPLINGS, default="nfds", help="default: %(default)s")

    parser.add_argument("--heads", nargs="+", choices=families.HEADS, help="keep these heads only (default: all)")
    parser.add_argument("--weights-licence", metavar="NAME", help="licence of the weights, if they are not known ones")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument("--overwrite", action="store_true", help="replace an artifact that is already there")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Quantises; returns the artifact's manifest.

    Finished blocks lie in a folder beside `--out` until the artifact is written: the same command goes on from them.
    Raises ValueError, CalibrationError, CheckpointError, ArtifactError.
    """
    checkpoint = args.checkpoint or args.checkpoint_option
    if checkpoint is None or (args.checkpoint and args.checkpoint_option):
        raise ValueError("name one checkpoint, as an argument or by --checkpoint")
    artifact.check_target(args.out, args.overwrite)
    recipe = _recipe(args)
    if recipe.needs_calibration and args.calibration is None:
        raise ValueError(
            f"recipe {args.recipe} looks at activations: name calibration data by --calibration, for example "
            f"{samples.SYNTHETIC} or a folder of photographs"
        )
    source, config = open_checkpoint(checkpoint)
    recipe = recipe.of(families.of(config))
    if args.heads:
        config = config.with_heads(args.heads)
    network = build_empty(config)
    match(network, source)
    for name, _ in network.named_parameters():
        source.read(name)  # a damaged tensor is refused now, not after hours of work
    origin = provenance.describe(checkpoint, args.weights_licence)
    started = time.monotonic()
    if not recipe.needs_calibration:
        made = quantize(config, source.read, recipe, device=args.device)
        return _save(args, made.net, recipe, None, origin)

    chosen = samples.choose(
        args.calibration,
        config,
        source.read,
        samples=args.samples,
        frames=args.frames,
        pool=args.pool or 5 * args.samples,
        sampling=args.sampling,
        seed=args.seed,
        data=args.data,
        device=args.device,
    )
    identity = {
        "checkpoint": origin["checkpoint_sha256"],
        "recipe": recipe.to_dict(),
        "calibration": chosen.facts,
        "torch": torch.__version__,
        "device": args.device,
    }
    blocks = args.out.with_name(f".{args.out.name}.blocks")
    store = StageStore(blocks, identity)
    made = quantize(config, source.read, recipe, chosen.images, store=store, device=args.device)
    manifest = _save(args, made.net, recipe, chosen.facts, origin)
    report.write(args.out, manifest, made.layers, time.monotonic() - started)
    shutil.rmtree(blocks)
    return manifest


def _recipe(args: argparse.Namespace) -> Recipe:
    args.recipe = args.recipe or (WITHOUT_CALIBRATION if args.calibration is None else WITH_CALIBRATION)
    parts = {part: getattr(args, part) for part in families.PARTS if getattr(args, part) is not None}
    given: dict[str, Any] = {}
    if args.no_rotation:
        given["rotate"] = False
    for name in ("attention", "dense_heads", "propagate"):
        if getattr(args, name):
            given[name] = getattr(args, name)
    if args.overrides:
        given["overrides"] = tuple(sorted(_read_overrides(args.overrides).items()))
    return replace(RECIPES[args.recipe], seed=args.seed, **given).with_parts(**parts)


def _read_overrides(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text())["overrides"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"--overrides {path}: expected JSON with layer names and schemes: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(scheme, str) for scheme in found.values()):
        raise ValueError(f"--overrides {path}: expected layer names and schemes, got {found!r}")
    return found


def _save(
    args: argparse.Namespace, net: Any, recipe: Recipe, calibration: dict[str, Any] | None, origin: dict[str, Any]
) -> dict[str, Any]:
    return artifact.save(
        net,
        args.out,
        recipe={"name": args.recipe, **recipe.to_dict()},
        calibration=calibration,
        provenance=origin,
        overwrite=args.overwrite,
    )
