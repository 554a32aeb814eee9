"""`quantvggt key`: an API key for one client of a service."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from quantvggt.errors import BadInputError

HELP = "make an API key"
EXTRA = "service"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Make an API key for one client, add its hash to a file for `serve --api-keys`, "
        "and print it once."
    )
    parser.add_argument("name", help="whose key it is")
    parser.add_argument(
        "--file", type=Path, required=True, help="file of hashed keys, made if it is not there"
    )
    parser.add_argument(
        "--per-hour", type=int, help="reconstructions that the client may start in an hour"
    )
    parser.add_argument(
        "--megapixels-per-hour",
        type=float,
        help="megapixels of pictures that the client may send in an hour",
    )
    parser.add_argument(
        "--megapixels-per-day",
        type=float,
        help="megapixels of pictures that the client may send in 24 hours",
    )
    parser.add_argument(
        "--stored-bytes", type=int, help="bytes that the client's results may take before new ones"
    )
    parser.add_argument("--json", action="store_true", help="print the key as JSON")


def run(options: argparse.Namespace) -> int:
    """Make the key and print it."""
    from service.keys import KeysError, Quota, add_key

    try:
        quota = Quota(
            options.per_hour,
            options.megapixels_per_hour,
            options.megapixels_per_day,
            options.stored_bytes,
        )
        token = add_key(options.file, options.name, quota)
    except KeysError as error:
        raise BadInputError(str(error)) from error
    print(json.dumps({"name": options.name, "key": token}) if options.json else token)
    print(
        f"{options.file} keeps only its hash; this is the only time that the key is shown.",
        file=sys.stderr,
    )
    return 0
