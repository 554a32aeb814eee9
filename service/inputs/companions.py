"""Pictures that show no view of a scene but belong to those that do: what capture programs and
training tools keep beside them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from model.scene.pictures import SUFFIXES

_MAP = "depth|conf|confidence|mask"
_SMALL = "thumb(?:nail)?"
_FOLDER = re.compile(rf"(?:{_MAP}|normal)(?:s|[ _-]?maps?)?|{_SMALL}s?")
_FILE = re.compile(rf"({_MAP}|{_SMALL})[ _.-]?\d+|.+[_.-]({_MAP})|{_SMALL}")
_COPIES = re.compile(r"images_\d+|corrected_images")  # beside `images`: smaller, or undistorted


def companions(paths: Sequence[str]) -> set[str]:
    """Those of an archive's paths that name depth maps, confidences, masks, normals, thumbnails or
    copies of other pictures in it.

    Where nothing else is left they are pictures after all, unless they are of several kinds.
    """
    pictures = [path for path in paths if path.lower().endswith(SUFFIXES)]
    folders = {
        path.lower()[: match.start()] for path in pictures for match in re.finditer("/", path)
    }
    kinds = {path: kind for path in pictures if (kind := _kind(path.lower(), folders))}
    if len(kinds) == len(pictures) and len(set(kinds.values())) == 1:
        return set()
    return set(kinds)


def _kind(path: str, folders: set[str]) -> str | None:
    """What a path in lower case names, None for a picture of the scene."""
    *parents, name = path.split("/")
    for depth, part in enumerate(parents):
        if _FOLDER.fullmatch(part):
            return part
        if _COPIES.fullmatch(part) and "/".join([*parents[:depth], "images"]) in folders:
            return "copy"
    found = _FILE.fullmatch(name.rpartition(".")[0])
    return (found[1] or found[2] or "thumbnail") if found else None
