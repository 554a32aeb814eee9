"""`quantvggt quantize`: a float checkpoint in, a packed artifact and a report out."""

from __future__ import annotations

import argparse
from pathlib import Path

from quantvggt import choices
from quantvggt.commands.inspect import summary
from quantvggt.commands.offline import offline, print_result

HELP = "turn a float checkpoint into a packed artifact"
EXTRA = "quantization"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("checkpoint", nargs="?", help=choices.CHECKPOINT_FORMS)
    parser.add_argument(
        "--checkpoint", dest="checkpoint_option", metavar="CHECKPOINT", help="the same as an option"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the artifact")
    parser.add_argument(
        "--recipe",
        choices=choices.RECIPES,
        help=f"default: {choices.WITH_CALIBRATION} with --calibration, else "
        f"{choices.WITHOUT_CALIBRATION}",
    )
    for part in choices.PARTS:
        parser.add_argument(
            f"--{part.replace('_', '-')}",
            choices=choices.SCHEMES,
            help="scheme of this part, if not the recipe's",
        )
    parser.add_argument(
        "--overrides",
        type=Path,
        metavar="FILE",
        help="JSON of single layers and their schemes, as `sensitivity` writes",
    )
    parser.add_argument(
        "--attention",
        choices=choices.ATTENTION,
        help="arithmetic of attention, if not the recipe's",
    )
    parser.add_argument(
        "--dense-heads",
        choices=choices.DENSE_HEADS,
        help="arithmetic of the dense heads, if not the recipe's",
    )
    parser.add_argument("--no-rotation", action="store_true", help="skip the Hadamard rotation")
    parser.add_argument(
        "--propagate", choices=choices.PROPAGATE, help="inputs of a block while it is quantised"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="rotations and calibration samples (default: %(default)s)",
    )

    data = parser.add_argument_group("calibration data")
    data.add_argument(
        "--calibration",
        metavar="SOURCE",
        help=f"{choices.SYNTHETIC}, {', '.join(choices.CALIBRATION_READERS)} (with --data), or a "
        "folder of photographs",
    )
    data.add_argument(
        "--data", type=Path, metavar="PATH", help="folder of the data set that --calibration names"
    )
    data.add_argument(
        "--samples",
        type=int,
        help=f"scenes to calibrate on (default: {choices.CALIBRATION['samples']})",
    )
    data.add_argument(
        "--frames",
        type=int,
        help=f"pictures of each (default: {choices.CALIBRATION['frames']})",
    )
    data.add_argument(
        "--pool",
        type=int,
        help="candidates that the samples are chosen from (default: five times as many)",
    )
    data.add_argument(
        "--sampling",
        choices=choices.SAMPLINGS,
        help=f"default: {choices.CALIBRATION['sampling']}",
    )

    parser.add_argument(
        "--heads", nargs="+", choices=choices.HEADS, help="keep these heads only (default: all)"
    )
    parser.add_argument(
        "--weights-licence",
        metavar="NAME",
        help="licence of the weights, if they are not known ones; of a copy of known ones, the "
        "hub repository that they are from",
    )
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an artifact that is already there"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> int:
    """Quantise, and print what the artifact holds."""
    from quantization import command
    from quantization.calibration.store import CalibrationError

    with offline(options.device, CalibrationError):
        manifest = command.run(options)
    print_result({"artifact": str(options.out), **summary(manifest)}, options.json)
    return 0
