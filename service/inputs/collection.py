"""From what was sent to one ordered list of picture files: archives unpacked, videos sampled,
manifest followed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePath

from service.errors import InvalidOption, NoPictures
from service.inputs.archive import unpack
from service.inputs.body import SentFile, Upload, too_many_pictures
from service.inputs.options import Options
from service.inputs.signatures import kind_of
from service.inputs.video import read_frames
from service.settings import Limits


@contextmanager
def collected(upload: Upload, options: Options, limits: Limits) -> Iterator[list[SentFile]]:
    """The pictures of `upload` in their final order; what was unpacked is closed when the context
    ends.

    Raises a ServiceError for a broken archive or video, too many pictures, or a manifest that does
    not fit.
    """
    opened: list[SentFile] = []
    pictures: list[SentFile] = []
    try:
        for sent in upload.files:
            kind = kind_of(sent.file)
            if kind == "archive":
                found = sorted(unpack(sent, limits), key=natural)
            elif kind == "video":
                found = read_frames(sent, options, limits)
            else:
                pictures.append(sent)
                continue
            opened += found
            pictures += found
        if not pictures:
            raise NoPictures("There is no picture in what was sent.")
        if len(pictures) > limits.max_images:
            raise too_many_pictures(limits)
        yield _ordered(pictures, options)
    finally:
        for file in opened:
            file.file.close()


def natural(file: SentFile) -> list[tuple[bool, int, str]]:
    """Sort key that puts 2.jpg before 10.jpg."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+", file.name.lower())
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _ordered(pictures: list[SentFile], options: Options) -> list[SentFile]:
    if options.manifest is None:
        return sorted(pictures, key=natural) if options.order == "natural" else pictures
    by_name = {picture.name: picture for picture in pictures}
    if len(by_name) < len(pictures):
        raise InvalidOption(
            "Two pictures have the same name, so a manifest can't tell them apart.",
            option="manifest",
        )
    missing = [name for name in options.manifest if name not in by_name]
    if missing:
        raise InvalidOption(
            f"The manifest names {missing[0][:120]!r}, which was not sent.", option="manifest"
        )
    if len(set(options.manifest)) < len(options.manifest):
        raise InvalidOption("The manifest names a picture twice.", option="manifest")
    return [by_name[name] for name in options.manifest]


def match_masks(masks: Sequence[SentFile], pictures: Sequence[SentFile]) -> list[SentFile | None]:
    """Each picture's mask: by equal name without suffix if every mask has such a name, else by
    order.

    Raises InvalidOption if neither fits.
    """
    if not masks:
        return [None] * len(pictures)
    stems = [PurePath(picture.name).stem for picture in pictures]
    named = {PurePath(mask.name).stem: mask for mask in masks}
    if len(named) == len(masks) and set(named) <= set(stems):
        return [named.get(stem) for stem in stems]
    if len(masks) == len(pictures):
        return list(masks)
    raise InvalidOption(
        f"{len(masks)} masks were sent for {len(pictures)} pictures; name each mask like its "
        "picture, "
        "or send exactly one for every picture in the same order.",
        option="masks",
    )
