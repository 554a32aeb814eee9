"""What a file is, by its first bytes: names and stated types are the client's word, bytes are
not."""

from __future__ import annotations

import re
from typing import BinaryIO, Literal

Kind = Literal["picture", "archive", "video", "unknown"]

HEAD_BYTES = 16

_HEIF = rb"....ftyp(he(ic|ix|im|is|vc|vx|vm|vs)|mif1|msf1|avif|avis)"
_PICTURE = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP|" + _HEIF, re.DOTALL)
_ARCHIVE = re.compile(rb"PK(\x03\x04|\x05\x06)")
_QUICKTIME = rb"....(ftyp|moov|mdat|wide|free|skip)"  # old cameras write no ftyp
_VIDEO = re.compile(_QUICKTIME + rb"|\x1a\x45\xdf\xa3|RIFF....AVI ", re.DOTALL)


def kind_of(file: BinaryIO) -> Kind:
    """The kind of a file, which is read from its start and left there."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return kind_of_head(head)


def kind_of_head(head: bytes) -> Kind:
    """Picture (JPEG, PNG, WebP, HEIC, AVIF), archive (zip), video (MP4, QuickTime, Matroska, WebM,
    AVI) or unknown, by a file's first bytes."""
    if _PICTURE.match(head):
        return "picture"
    if _ARCHIVE.match(head):
        return "archive"
    return "video" if _VIDEO.match(head) else "unknown"
