"""`quantvggt serve`: answer reconstruction requests over HTTP."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any, get_args

from quantvggt.errors import BadInputError, ServiceError

HELP = "answer reconstruction requests over HTTP"
EXTRA = "service"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare one flag for each setting of the service."""
    from service.settings import FIELDS, PREFIX, types

    parser.description = (
        f"Serve a quantised model over HTTP. Every flag is also an environment variable {PREFIX}…; "
        "a flag wins over the variable."
    )
    parser.usage = "%(prog)s --artifact ARTIFACT [SETTING ...]"
    kinds = types()
    for name, field in FIELDS.items():
        parser.add_argument(
            "--" + name.replace("_", "-"), default=argparse.SUPPRESS, **_flag(field, kinds[name])
        )
    parser.add_argument(
        "--json", action="store_true", help="announce the address as one line of JSON"
    )


def run(options: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    from service.settings import FIELDS, SettingsError, load_settings

    try:
        settings = load_settings(
            {name: getattr(options, name) for name in FIELDS if name in options}
        )
    except SettingsError as error:
        raise BadInputError(str(error)) from error

    from service import errors
    from service.serve import BAD_INPUT, serve

    try:
        serve(
            settings,
            lambda url: print(json.dumps({"url": url}) if options.json else url, flush=True),
        )
    except BAD_INPUT as error:
        raise BadInputError(str(error)) from error
    except errors.ServiceError as error:
        raise ServiceError(str(error)) from error
    return 0


def _flag(field: dataclasses.Field[Any], kind: Any) -> dict[str, Any]:
    described = field.metadata["description"]
    if kind is bool:
        return {"action": "store_true", "help": described}
    if field.default not in (dataclasses.MISSING, None, ()):
        described += f" (default {field.default})"
    if kind == tuple[str, ...]:
        return {"action": "append", "metavar": field.name.upper(), "help": described}
    choices = [choice for choice in get_args(kind) if isinstance(choice, str)]  # of a Literal
    if choices:
        return {"choices": choices, "help": described}
    return {"metavar": field.name.upper(), "help": described}
