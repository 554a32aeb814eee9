"""Names of files as clients send them: for people to read, never paths."""

from __future__ import annotations

import re

_NAME_LENGTH = 120  # characters of a file's or a folder's name
_PATH_LENGTH = 240


def display_name(name: str | None, index: int) -> str:
    """A file name fit to be echoed: without control characters and of bounded length.

    A path is kept if it only leads down ("left/1.jpg"), of any other its last component.
    """
    path = (name or "").replace("\\", "/")
    parts = [_printable(part) for part in path.split("/")]
    if path.startswith("/") or ".." in parts or re.match("[A-Za-z]:/", path):
        parts = parts[-1:]
    kept = [part for part in parts if part not in ("", ".", "..")]
    while len("/".join(kept)) > _PATH_LENGTH:
        del kept[0]
    return "/".join(kept) or f"picture-{index}"


def _printable(part: str) -> str:
    shown = "".join(character for character in part if character.isprintable()).strip()
    return shown[-_NAME_LENGTH:]
