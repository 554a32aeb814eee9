"""The command `quantvggt`: answers on standard output, progress on standard error.

Exit status: 0 done, 1 the service failed or could not be reached, 2 bad input, with one sentence
that says why. Parsing imports nothing that computes: every command brings in what it runs when it
runs.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from typing import Protocol

from quantvggt import __version__
from quantvggt.commands import (
    ablate,
    batch,
    demo,
    download,
    evaluate,
    inspect,
    key,
    pairs,
    quantize,
    reconstruct,
    sensitivity,
    serve,
)
from quantvggt.errors import BadInputError, ServiceError
from quantvggt.packages import FOLDERS, make_importable

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


class Command(Protocol):
    """A module of `quantvggt.commands`."""

    HELP: str
    EXTRA: str
    """What `pip install quantvggt[…]` has to name for all of it to run."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, options: argparse.Namespace) -> int: ...


_COMMANDS: dict[str, Command] = {
    "quantize": quantize,
    "sensitivity": sensitivity,
    "ablate": ablate,
    "inspect": inspect,
    "evaluate": evaluate,
    "pairs": pairs,
    "download": download,
    "serve": serve,
    "reconstruct": reconstruct,
    "batch": batch,
    "key": key,
    "demo": demo,
}
_PROGRAMS = {
    "python -m quantization": (
        "quantize",
        "sensitivity",
        "ablate",
        "inspect",
        "evaluate",
        "pairs",
        "demo",
        "download",
    ),
    "python -m service": ("serve", "reconstruct", "batch", "key", "demo"),
}
"""Ways to start it that offer some of the commands only."""


def main(arguments: Sequence[str] | None = None, program: str = "quantvggt") -> int:
    """Run one command; returns the exit status."""
    make_importable()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be text
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser(program).parse_args(arguments)
    command = _COMMANDS[options.command]
    try:
        return command.run(options)
    except BadInputError as error:
        return _failed(error, BAD_INPUT)
    except ServiceError as error:
        return _failed(error, BAD_INPUT if error.blames_input else FAILED)
    except ModuleNotFoundError as error:
        if error.name in FOLDERS:  # as in an image, which holds one side only
            return _failed(
                f"{options.command} needs {error.name}, which is not part of this installation.",
                BAD_INPUT,
            )
        if error.name is None or error.name.partition(".")[0] in ("quantvggt", *FOLDERS):
            raise
        install = f"pip install 'quantvggt[{command.EXTRA}]'"
        return _failed(
            f"{options.command} needs {error.name}, which is not installed: {install}", BAD_INPUT
        )
    except OSError as error:
        return _failed(f"{error.filename or 'input'}: {error.strerror or error}.", BAD_INPUT)
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Make 4-bit models of feed-forward 3D reconstruction, serve them, and "
        "reconstruct from pictures.",
        epilog="Every command has --help and --json.",
    )
    parser.add_argument("--version", action="version", version=f"quantvggt {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name in _PROGRAMS.get(program, _COMMANDS):
        command = _COMMANDS[name]
        command.add_arguments(commands.add_parser(name, help=command.HELP))
    return parser


def _failed(reason: object, status: int) -> int:
    print(f"error: {reason}", file=sys.stderr, flush=True)
    return status
