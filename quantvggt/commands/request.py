"""What commands that talk to a service have in common: options of the request, and the API key."""

from __future__ import annotations

import os
import sys

from quantvggt import choices
from quantvggt.errors import BadInputError

API_KEY, _OLD_API_KEY = "QUANTVGGT_API_KEY", "RECON_API_KEY"


def pair(text: str) -> tuple[str, str]:
    """An option of a request from NAME=VALUE. Raises BadInputError."""
    name, sign, value = text.partition("=")
    if not sign or name not in choices.OPTIONS:
        raise BadInputError(
            f"--option {text}: give NAME=VALUE with one of {', '.join(choices.OPTIONS)}."
        )
    return name, value


def api_key() -> str | None:
    """The key that the environment holds."""
    if API_KEY not in os.environ and _OLD_API_KEY in os.environ:
        say(
            f"warning: {_OLD_API_KEY} is now {API_KEY}; the old name will not be read by the next "
            "release."
        )
    return os.environ.get(API_KEY) or os.environ.get(_OLD_API_KEY)


def say(line: str) -> None:
    """A line on standard error."""
    print(line, file=sys.stderr, flush=True)
