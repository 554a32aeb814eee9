"""What pictures are called in files for other programs: the same names in each of them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from service.result.names import distinct
from service.result.scene import Scene

_SUFFIXES = {b"\xff\xd8": (".jpg", ".jpeg"), b"\x89P": (".png",)}
"""Of the formats that originals are kept in, by their first bytes."""


def exported_names(scene: Scene) -> list[str]:
    """A name for each picture, no two alike: the path that it was sent with, blanks replaced,
    since in a COLMAP model as text a blank ends the name.

    Where the scene holds the pictures, names end as their format asks: a HEIC that is kept as JPEG
    is called ``a.heic.jpg``.
    """
    names = [_plain(picture.filename) for picture in scene.document.pictures]
    for index, original in enumerate(scene.originals):
        suffixes = _SUFFIXES[original[:2].tobytes()]
        if PurePosixPath(names[index]).suffix.lower() not in suffixes:
            names[index] += suffixes[0]
    return distinct(names)


def _plain(name: str) -> str:
    """The name without blanks, and as a path that leads out of no folder."""
    parts = re.sub(r"\s", "_", name).split("/")
    return "/".join(part for part in parts if part.strip(".")) or "picture"
