"""From what was sent to one ordered list of picture files: archives unpacked, videos sampled,
manifest followed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from service.errors import InvalidOption, NoPictures
from service.inputs.archive import unpack
from service.inputs.body import SentFile, Upload, too_many_pictures
from service.inputs.masks import match_masks
from service.inputs.names import display_name
from service.inputs.options import Options
from service.inputs.signatures import kind_of
from service.inputs.video import read_frames
from service.result.document import WarningDocument
from service.result.names import comparable, distinct
from service.settings import Limits

_MOST_LISTED = 5


@dataclass(frozen=True)
class Collected:
    """The pictures in their final order, no two of one name, each with its mask or None, and what
    to know of how they were found."""

    pictures: list[SentFile]
    masks: list[SentFile | None]
    warnings: list[WarningDocument]


@contextmanager
def collected(upload: Upload, options: Options, limits: Limits) -> Iterator[Collected]:
    """The pictures of `upload`; what was unpacked is closed when the context ends.

    Raises a ServiceError for a broken archive or video, too many pictures, or a manifest or masks
    that do not fit.
    """
    opened: list[SentFile] = []
    skipped: list[str] = []
    damage: list[WarningDocument] = []
    try:
        every = options.manifest is not None  # which says itself what is no picture of the scene
        pictures = _gathered(upload.files, options, limits, opened, skipped, damage, every)
        if not pictures:
            raise NoPictures(
                f"There is no picture in what was sent.{_listed(skipped)} Send JPEG, PNG, WebP, "
                "HEIC or AVIF pictures, by themselves or in a zip, and videos by themselves."
            )
        masks = _gathered(upload.masks, options, limits, opened, skipped, damage, every=True)
        matched, warnings = match_masks(masks, pictures)  # some by the order in which they came
        order = _order(pictures, options)
        pictures, matched = [pictures[i] for i in order], [matched[i] for i in order]
        names = distinct([picture.name for picture in pictures])
        pictures = [
            replace(picture, name=name) for picture, name in zip(pictures, names, strict=True)
        ]
        if skipped:
            message = f"Archives held files that are no pictures of the scene.{_listed(skipped)}"
            warnings = [WarningDocument(code="files-skipped", message=message), *warnings]
        yield Collected(pictures, matched, damage + warnings)
    finally:
        for file in opened:
            file.file.close()


def _gathered(
    files: Sequence[SentFile],
    options: Options,
    limits: Limits,
    opened: list[SentFile],
    skipped: list[str],
    damage: list[WarningDocument],
    every: bool,
) -> list[SentFile]:
    """The pictures that `files` are or hold, also `every` companion of others. What is unpacked is
    added to `opened`, the names of what is left out to `skipped`, warnings of damaged videos to
    `damage`."""
    pictures: list[SentFile] = []
    for sent in files:
        kind = kind_of(sent.file)
        if kind == "archive":
            found, others = unpack(sent, limits, every)
            opened += found
            skipped += others
            pictures += sorted(found, key=natural)
        elif kind == "video":
            found, told = read_frames(sent, options, limits)
            damage += told
            opened += found
            pictures += found
        else:
            pictures.append(sent)
        if len(pictures) > limits.max_images:
            raise too_many_pictures(limits)
    return pictures


def natural(file: SentFile) -> list[list[tuple[bool, int, str]]]:
    """Sort key that puts 2.jpg before 10.jpg, folder by folder."""
    return [
        [
            (not piece.isdecimal(), int(piece) if piece.isdecimal() else 0, piece)
            for piece in re.findall(r"[0-9]{1,18}|[^0-9]+", part.lower())
        ]
        for part in comparable(file.name).split("/")
    ]


def _listed(skipped: Sequence[str]) -> str:
    if not skipped:
        return ""
    shown = ", ".join(skipped[:_MOST_LISTED])
    rest = len(skipped) - _MOST_LISTED
    return f" Not taken: {shown}{f' and {rest} more' if rest > 0 else ''}."


def _order(pictures: Sequence[SentFile], options: Options) -> list[int]:
    """Which pictures are wanted, in the order wanted."""
    if options.manifest is None:
        sent = list(range(len(pictures)))
        if options.order == "natural":
            sent.sort(key=lambda index: natural(pictures[index]))
        return sent
    chosen = [_named(name, pictures) for name in options.manifest]
    if len(set(chosen)) < len(chosen):
        raise InvalidOption("The manifest names a picture twice.", option="manifest")
    return chosen


def _named(name: str, pictures: Sequence[SentFile]) -> int:
    """The picture of this path, or else the one whose path ends so. Raises InvalidOption."""
    wanted = comparable(display_name(name, 0))
    paths = [comparable(picture.name) for picture in pictures]
    found = [index for index, path in enumerate(paths) if path == wanted] or [
        index for index, path in enumerate(paths) if path.endswith("/" + wanted)
    ]
    if not found:
        raise InvalidOption(
            f"The manifest names {name[:120]!r}, which was not sent.", option="manifest"
        )
    if len(found) > 1:
        raise InvalidOption(
            f"{len(found)} pictures have the same name {name[:120]!r}, so a manifest can't tell "
            "them apart; name their folders, too.",
            option="manifest",
        )
    return found[0]
