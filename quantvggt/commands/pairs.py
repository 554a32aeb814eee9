"""`quantvggt pairs`: score pairs of pictures by how far the camera turned between them."""

from __future__ import annotations

import argparse
from pathlib import Path

from quantvggt import choices
from quantvggt.commands.offline import offline

HELP = "score pairs of pictures by how far the camera turned"
EXTRA = "quantization"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="PATH_OR_NAME",
        help="checkpoint (demo, a file, a hub id) or an artifact",
    )
    parser.add_argument(
        "--sets",
        nargs="*",
        choices=choices.TEST_SETS,
        default=[],
        metavar="NAME",
        help=f"synthetic scenes of two frames: {', '.join(choices.TEST_SETS)}",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="folder with pictures and their cameras.json, or a folder of such folders: all pairs "
        "of each",
    )
    parser.add_argument(
        "--scenes", type=int, default=400, metavar="N", help="of each set; default: %(default)s"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the first scene; default: %(default)s"
    )
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(options: argparse.Namespace) -> int:
    """Score and print."""
    from evaluation import pairs_command

    with offline(options.device):
        return pairs_command.run(options)
