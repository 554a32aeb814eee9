"""`quantvggt quantize`: a float checkpoint in, a packed artifact and a report out."""

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
from model.files.checkpoint import build_empty, match, open_checkpoint
from model.files.domain import Domain, domain_beside
from quantization.calibration import report, samples
from quantization.calibration.run import Calibrated
from quantization.calibration.store import StageStore
from quantization.convert import quantize, suited
from quantization.recipe import RECIPES, Recipe

WITHOUT_CALIBRATION, WITH_CALIBRATION = "quarot", "best"
CALIBRATION = {"samples": 20, "frames": 4, "sampling": "nfds"}
"""What calibration takes where nothing else is asked for."""


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Quantises; returns the artifact's manifest.

    Finished blocks lie in a folder beside `--out` until the artifact is written: the same command
    goes on from them. Raises ValueError, CalibrationError, CheckpointError, ArtifactError.
    """
    checkpoint = args.checkpoint or args.checkpoint_option
    if checkpoint is None or (args.checkpoint and args.checkpoint_option):
        raise ValueError("name one checkpoint, as an argument or by --checkpoint")
    artifact.check_target(args.out, args.overwrite)
    recipe = _recipe(args)
    if recipe.needs_calibration and args.calibration is None:
        raise ValueError(
            f"recipe {args.recipe} looks at activations: name calibration data by --calibration, "
            "for example "
            f"{samples.SYNTHETIC} or a folder of photographs"
        )
    if not recipe.needs_calibration:
        for option in ("calibration", "data", "pool", "propagate", *CALIBRATION):
            if getattr(args, option) is not None:
                raise ValueError(
                    f"--{option} has no meaning for recipe {args.recipe}, which looks at no "
                    "activations; leave it out"
                )
    source, config = open_checkpoint(checkpoint)
    if args.heads:
        config = config.with_heads(args.heads)
    recipe = suited(recipe, config)
    network = build_empty(config)
    match(network, source)
    for name, _ in network.named_parameters():
        source.read(name)  # a damaged tensor is refused now, not after hours of work
    origin = provenance.describe(checkpoint, args.weights_licence)
    domain = domain_beside(source.path)
    started = time.monotonic()
    if not recipe.needs_calibration:
        made = quantize(config, source.read, recipe, device=args.device)
        return _save(args, made, recipe, None, origin, domain)

    how: dict[str, Any] = {
        name: default if getattr(args, name) is None else getattr(args, name)
        for name, default in CALIBRATION.items()
    }
    chosen = samples.choose(
        args.calibration,
        config,
        source.read,
        **how,
        pool=args.pool or 5 * how["samples"],
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
    manifest = _save(args, made, recipe, chosen.facts, origin, domain)
    report.write(args.out, manifest, made.layers, time.monotonic() - started)
    shutil.rmtree(blocks)
    return manifest


def _recipe(args: argparse.Namespace) -> Recipe:
    args.recipe = args.recipe or (
        WITHOUT_CALIBRATION if args.calibration is None else WITH_CALIBRATION
    )
    parts = {
        part: getattr(args, part) for part in families.PARTS if getattr(args, part) is not None
    }
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
        raise ValueError(
            f"--overrides {path}: expected JSON with layer names and schemes: {error}"
        ) from None
    if not isinstance(found, dict) or not all(isinstance(scheme, str) for scheme in found.values()):
        raise ValueError(f"--overrides {path}: expected layer names and schemes, got {found!r}")
    return found


def _save(
    args: argparse.Namespace,
    made: Calibrated,
    recipe: Recipe,
    calibration: dict[str, Any] | None,
    origin: dict[str, Any],
    domain: Domain | None,
) -> dict[str, Any]:
    return artifact.save(
        made.net,
        args.out,
        wide=made.wide,
        recipe={"name": args.recipe, **recipe.to_dict()},
        calibration=calibration,
        provenance=origin,
        domain=domain,
        overwrite=args.overwrite,
    )
