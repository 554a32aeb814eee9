from __future__ import annotations

import io

import pytest

from service.inputs.signatures import kind_of
from tests.service.pictures import encode, make_picture


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xd8\xff\xe0JFIF", "picture"),
        (b"\x89PNG\r\n\x1a\n", "picture"),
        (b"RIFF1234WEBPVP8 ", "picture"),
        (b"\0\0\0\x18ftypheic", "picture"),
        (b"\0\0\0\x18ftyphevc", "picture"),
        (b"\0\0\0\x20ftypavif", "picture"),
        (b"\0\0\0\x20ftypavis", "picture"),
        (b"PK\x03\x04", "archive"),
        (b"PK\x05\x06", "archive"),
        (b"\0\0\0\x18ftypisom", "video"),
        (b"\0\0\0\x14ftypqt  ", "video"),
        (b"\0\0\x10\0moov", "video"),
        (b"\0\0\x10\0mdat", "video"),
        (b"\x1a\x45\xdf\xa3", "video"),
        (b"RIFF1234AVI LIST", "video"),
        (b"GIF89a", "unknown"),
        (b"%PDF-1.7", "unknown"),
        (b"", "unknown"),
    ],
)
def test_a_file_is_what_its_first_bytes_say(head: bytes, kind: str) -> None:
    file = io.BytesIO(head + bytes(40 if head else 0))
    assert kind_of(file) == kind
    assert file.tell() == 0


def test_a_picture_with_an_archive_behind_it_is_a_picture() -> None:
    assert kind_of(io.BytesIO(encode(make_picture(), "JPEG") + b"PK\x03\x04")) == "picture"
