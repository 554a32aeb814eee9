"""The files of a result: their names, which of them somebody asked for, and the document that
describes them.

A result's document, as the service sends it, links to every file that can be had of it. In a folder
the links are names relative to it, and only those of files that are there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import PurePosixPath
from typing import Any

from quantvggt.errors import BadInputError

DOCUMENT = "result.json"
ARCHIVE = "everything.zip"
OVERVIEW = "overview.png"
DEFAULT = ("pictures/*.png", "depth/*.png", "depth/*.npy", "points.ply", "cameras.json")
"""What is written beside the document where nobody says what is wanted."""

SCENE_FILES = (
    "points.ply", "points-ascii.ply", "scene.glb", "colmap.zip", "colmap-text.zip",
    "transforms.json", "trajectory.txt", "cameras.json", "scene.npz", "tracks.json", "mesh.ply",
    "mesh.glb", "gaussians.ply", "splats.zip", "nerfstudio.zip", "manifest.json", ARCHIVE,
    "view.bin", "points.json",
)  # fmt: skip
PICTURE_FILES = (
    "pictures/0.png", "pictures/0/preview.jpg", "depth/0.png", "depth/0.npy", "depth/0.exr",
    "depth/0/preview.png", "depth/0.source.png", "confidence/0.npy", "confidence/0/preview.png",
)  # fmt: skip
"""Of each picture, by the example of the first."""

_NOT_FILES = ("self", "events")
NOT_ARCHIVED = (ARCHIVE, "pictures/0/preview.jpg", "view.bin", "points.json")
"""What the archive of everything leaves out, itself among it."""


def check_outputs(outputs: Iterable[str]) -> None:
    """Raises BadInputError for a name or pattern that no file of any result has."""
    for pattern in outputs:
        example = re.sub(r"\d+", "0", pattern)
        if not any(matches(name, example) for name in (*SCENE_FILES, *PICTURE_FILES)):
            known = ", ".join((*SCENE_FILES, *PICTURE_FILES))
            raise BadInputError(
                f"--output {pattern}: no result has such a file; there are {known}."
            )


def matches(name: str, pattern: str) -> bool:
    """Whether `pattern` names this file: ``scene.glb``, ``depth/*.exr``, ``*.png``; ``*`` is all
    that the archive holds."""
    if pattern == "*":
        return re.sub(r"\d+", "0", name) not in NOT_ARCHIVED
    return PurePosixPath(name).match(pattern)


def is_ours(name: str) -> bool:
    """Whether a result, of whatever scene, may have left a file of this name."""
    return name in (DOCUMENT, OVERVIEW) or re.sub(r"\d+", "0", name) in (
        *SCENE_FILES,
        *PICTURE_FILES,
    )


def chosen(document: Mapping[str, Any], outputs: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of the files of a result that match one of `outputs`, and those of `outputs` that match
    none."""
    names = list(_names(document).values())
    missing = [pattern for pattern in outputs if not any(matches(name, pattern) for name in names)]
    return [name for name in names if any(matches(name, pattern) for pattern in outputs)], missing


def in_folder(document: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The document of a folder that holds the files `names`."""
    here = set(names)
    relative = _names(document)
    local: dict[str, Any] = deepcopy(dict(document))
    for links in _links(local):
        for kind, link in list(links.items()):
            if kind == "self":
                links[kind] = DOCUMENT
            elif relative.get(link) in here:
                links[kind] = relative[link]
            else:
                del links[kind]
    return local


def _links(document: dict[str, Any]) -> list[dict[str, Any]]:
    pictures = document["pictures"]
    return [
        document["links"],
        *(p["links"] for p in pictures),
        *(p["depth"]["links"] for p in pictures),
    ]


def _names(document: Mapping[str, Any]) -> dict[str, str]:
    """Names in a folder by link. Raises BadInputError for one that would lead out of the folder."""
    prefix = f"/reconstructions/{document['id']}/"
    found = {}
    for links in _links(dict(document)):
        for kind, link in links.items():
            if kind in _NOT_FILES or link is None:
                continue
            name = str(link).removeprefix(prefix)
            if name.startswith("/") or ".." in PurePosixPath(name).parts:
                raise BadInputError(
                    f"the result has a file {link!r}, which leads out of its folder."
                )
            found[link] = name
    return found
