"""`quantvggt download`: a checkpoint from the hub."""

from __future__ import annotations

import argparse

from quantvggt import choices
from quantvggt.commands.offline import offline, print_result

HELP = "fetch a checkpoint from the hub, the newest, and print where it lies"
EXTRA = "quantization"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("repository", help=choices.HUB_FORMS)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> int:
    """Download, and print where the weights lie and which heads they have."""
    from model.files.checkpoint import resolve_checkpoint

    with offline():
        path, config = resolve_checkpoint(options.repository, newest=True)
    print_result({"weights": str(path), "heads": ", ".join(config.heads)}, options.json)
    return 0
