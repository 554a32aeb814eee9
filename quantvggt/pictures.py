"""What a user names to what is sent: folders to their pictures, shell patterns to files, URLs as
they are."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from quantvggt.errors import BadInputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif")
"""What counts as a picture in a folder, in upper or lower case."""

Source = str | Path
"""A file, a folder, a shell pattern, or the URL of a picture."""


def expand(sources: Source | Iterable[Source]) -> list[Path | str]:
    """Files to send, as paths, and URLs, as text, in the order given.

    A folder stands for the pictures in it, a pattern for the files that match it, each in natural
    order (2.jpg before 10.jpg). Raises BadInputError for a name that leads to nothing.
    """
    given = [sources] if isinstance(sources, (str, Path)) else list(sources)
    return [found for source in given for found in _expand(source)]


def natural(path: Path) -> list[tuple[bool, int, str]]:
    """Sort key that puts 2.jpg before 10.jpg."""
    pieces = re.findall(r"[0-9]{1,18}|[^0-9]+", str(path).lower())
    return [
        (not piece.isdecimal(), int(piece) if piece.isdecimal() else 0, piece) for piece in pieces
    ]


def _expand(source: Source) -> Iterator[Path | str]:
    if isinstance(source, str) and source.lower().startswith(("https://", "http://")):
        yield source
        return
    path = Path(source).expanduser()
    if path.is_dir():
        found = [
            file
            for file in path.iterdir()
            if file.suffix.lower() in SUFFIXES and file.name[0] != "."
        ]
        if not found:
            raise BadInputError(f"{path} holds no pictures ({', '.join(SUFFIXES)}).")
    elif path.is_file():
        found = [path]
    elif glob.has_magic(str(path)):
        found = [file for file in map(Path, glob.glob(str(path), recursive=True)) if file.is_file()]
        if not found:
            raise BadInputError(f"{path} matches no file.")
    else:
        raise BadInputError(f"{path}: no such file or folder.")
    yield from sorted(found, key=natural)
