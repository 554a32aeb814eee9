"""What pictures are called in files for other programs: the same in each, distinct, without blanks.

COLMAP's text format ends a name at a blank, and archives must hold no names that lead out of them.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from service.result.names import comparable_as_files, distinct
from service.result.scene import Scene

_SUFFIXES = {b"\xff\xd8": (".jpg", ".jpeg"), b"\x89P": (".png",)}
"""Of the formats that originals are kept in, by their first bytes."""


def exported_names(scene: Scene) -> list[str]:
    """A name for each picture, no two alike, made from the path that it was sent with.

    Where the scene holds the pictures, names end as their format asks: a HEIC that is kept as JPEG
    is called ``a.heic.jpg``.
    """
    names = [_plain(picture.filename) for picture in scene.document.pictures]
    for index, original in enumerate(scene.originals):
        suffixes = _SUFFIXES[original[:2].tobytes()]
        if PurePosixPath(names[index]).suffix.lower() not in suffixes:
            names[index] += suffixes[0]
    return distinct(names, comparable_as_files)


def _plain(name: str) -> str:
    """`name` as a relative path that any file system takes."""
    parts = re.sub(r"[\s\x00-\x1f\x7f:*?\"<>|]", "_", name).replace("\\", "/").split("/")
    return "/".join(part for part in parts if part.strip(".")) or "picture"
