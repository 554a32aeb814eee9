"""`quantvggt demo {train,export,samples}`: train the demo model, export it, render the sample
pictures."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from model.files.checkpoint import DEMO_CHECKPOINT
from scenes.readers.folder import write_folder
from scenes.synthetic.generator import SyntheticScenes
from training import trainer
from training.curve import plot_curve
from training.recipes import RECIPES


def train(args: argparse.Namespace) -> None:
    """Train from scratch or go on. Raises TrainingError, ValueError."""
    given = {name: getattr(args, name) for name in ("steps", "seed", "start", "processes")}
    config = dataclasses.replace(
        RECIPES[args.recipe], **{k: v for k, v in given.items() if v is not None}
    )
    if config.start is not None:  # trained weights need no easy start
        config = dataclasses.replace(
            config, batches=dataclasses.replace(config.batches, easy_fraction=0.0)
        )
    trainer.train(
        config,
        args.out,
        minutes=args.minutes,
        fit_minutes=args.fit_minutes,
        device=args.device,
    )


def export(args: argparse.Namespace) -> Path:
    """Write a run's averaged weights and its curve; returns the checkpoint's folder. Raises
    TrainingError."""
    out: Path = args.out or DEMO_CHECKPOINT
    trainer.export(args.folder, out)
    plot_curve(args.folder, out / "curve.png")
    return out


def render_samples(args: argparse.Namespace) -> None:
    """Write pictures and cameras of one scene of the test split."""
    height, width = args.size
    scene = SyntheticScenes("test", 1, args.views, height, width, seed=args.seed)[0]
    write_folder(scene, args.out)
