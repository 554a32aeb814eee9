"""What a user names to what is sent: folders to their pictures, shell patterns to files, URLs as
they are."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from quantvggt.errors import BadInputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif")
"""What counts as a picture in a folder, in upper or lower case."""

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
"""What is sent as a video, also where the system knows no type for it, in upper or lower case."""

Source = str | Path
"""A file, a folder, a shell pattern, or the URL of a picture."""


def expand(sources: Source | Iterable[Source]) -> list[Path | str]:
    """Files to send, as paths, and URLs, as text, in the order given.

    A folder stands for the pictures in it, a pattern for the files that match it, each in natural
    order (2.jpg before 10.jpg). Raises BadInputError for a name that leads to nothing.
    """
    given = [sources] if isinstance(sources, (str, Path)) else list(sources)
    return [found for source in given for found in _expand(source)]


def names(files: Sequence[Path]) -> list[str]:
    """What files are called where they are sent: their own names, or, where two have the same,
    their paths from the folder that they all are in. What is not UTF-8 in a name becomes U+FFFD."""
    own = [file.name for file in files]
    if len(set(own)) < len(own):
        paths = [os.path.abspath(file) for file in files]
        folder = os.path.commonpath([os.path.dirname(path) for path in paths])
        own = [Path(os.path.relpath(path, folder)).as_posix() for path in paths]
    return [os.fsencode(name).decode("utf-8", "replace") for name in own]


def natural(path: Path) -> list[tuple[bool, int, str]]:
    """Sort key that puts 2.jpg before 10.jpg."""
    pieces = re.findall(r"[0-9]{1,18}|[^0-9]+", str(path).lower())
    return [
        (not piece.isdecimal(), int(piece) if piece.isdecimal() else 0, piece) for piece in pieces
    ]


def pictures_in(folder: Path) -> list[Path]:
    """The pictures that lie in a folder itself, without hidden ones; also links that lead
    nowhere."""
    return [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in SUFFIXES and file.name[0] != "." and not file.is_dir()
    ]


def _expand(source: Source) -> Iterator[Path | str]:
    if isinstance(source, str) and source.lower().startswith(("https://", "http://")):
        yield source
        return
    path = Path(source).expanduser()
    if path.is_dir():
        found = pictures_in(path)
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
