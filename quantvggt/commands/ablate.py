"""`quantvggt ablate`: what each step of a recipe is worth, measured on held-out scenes."""

from __future__ import annotations

import argparse
from pathlib import Path

from quantvggt import choices
from quantvggt.commands.offline import offline

HELP = "measure what each step of a recipe is worth"
EXTRA = "quantization"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("checkpoint", help=choices.CHECKPOINT_FORMS)
    parser.add_argument(
        "--recipe",
        choices=choices.RECIPES,
        default=choices.WITH_CALIBRATION,
        help="what is varied (default: %(default)s)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=choices.ABLATIONS,
        metavar="VARIANT",
        help=f"some of: {', '.join(choices.ABLATIONS)} (default: all)",
    )
    parser.add_argument(
        "--activations",
        choices=("4", "8"),
        default="4",
        help="bits of activations of layers that have 4 (default: %(default)s)",
    )
    parser.add_argument(
        "--calibration", default=choices.SYNTHETIC, metavar="SOURCE", help="default: %(default)s"
    )
    parser.add_argument(
        "--data", type=Path, metavar="PATH", help="folder of the data set that --calibration names"
    )
    parser.add_argument("--samples", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--frames", type=int, default=4, help="default: %(default)s")
    parser.add_argument(
        "--pool", type=int, help="candidates of the samples (default: five times as many)"
    )
    parser.add_argument(
        "--scenes",
        type=int,
        default=100,
        help="held-out synthetic scenes for each number of views (default: %(default)s)",
    )
    parser.add_argument(
        "--views", type=int, nargs="+", default=[2, 4], metavar="N", help="default: 2 4"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the result as JSON")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    from quantization import ablation
    from quantization.calibration.store import CalibrationError

    with offline(options.device, CalibrationError):
        return ablation.run(options)
