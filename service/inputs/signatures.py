"""What a file is, by its first bytes: names and stated types are the client's word, bytes are
not."""

from __future__ import annotations

import re
from typing import BinaryIO, Literal

Kind = Literal["picture", "archive", "video", "unknown"]

HEAD_BYTES = 16

_HEIC = rb"....ftyp(heic|heix|heim|heis|mif1|msf1)"
_PICTURE = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP|" + _HEIC, re.DOTALL)
_ARCHIVE = re.compile(rb"PK(\x03\x04|\x05\x06)")
_VIDEO = re.compile(rb"....ftyp|\x1a\x45\xdf\xa3|RIFF....AVI ", re.DOTALL)


def kind_of(file: BinaryIO) -> Kind:
    """Picture (JPEG, PNG, WebP, HEIC), archive (zip), video (MP4, QuickTime, Matroska, WebM, AVI)
    or unknown."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if _PICTURE.match(head):
        return "picture"
    if _ARCHIVE.match(head):
        return "archive"
    return "video" if _VIDEO.match(head) else "unknown"
