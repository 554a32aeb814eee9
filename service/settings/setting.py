"""One setting: its description, default and bounds."""

from __future__ import annotations

import dataclasses
from typing import Any


class SettingsError(ValueError):
    """A flag or environment variable is unknown, missing or out of range. One sentence, naming key
    and value."""


def setting(
    description: str, default: Any = dataclasses.MISSING, *, repr: bool = True, **bounds: float
) -> Any:
    """One setting; pydantic knows the bounds by name: ge (at least), gt (above), le (at most)."""
    return dataclasses.field(
        default=default, repr=repr, metadata={"description": description, **bounds}
    )
