"""`quantvggt sensitivity`: which layers deserve 8-bit activations, measured, under a budget."""

from __future__ import annotations

import argparse
from pathlib import Path

from quantvggt import choices
from quantvggt.commands.offline import offline

HELP = "measure which layers deserve 8-bit activations"
EXTRA = "quantization"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("checkpoint", help=choices.CHECKPOINT_FORMS)
    parser.add_argument(
        "--calibration", default=choices.SYNTHETIC, metavar="SOURCE", help="default: %(default)s"
    )
    parser.add_argument(
        "--data", type=Path, metavar="PATH", help="folder of the data set that --calibration names"
    )
    parser.add_argument("--samples", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--frames", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--part", choices=choices.PARTS, help="default: the network's main part")
    parser.add_argument(
        "--budget", type=float, default=0.1, help="share of the part's multiplications; default 0.1"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write what `quantize --overrides` takes"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    from quantization import sensitivity
    from quantization.calibration.store import CalibrationError

    with offline(options.device, CalibrationError):
        return sensitivity.run(options)
