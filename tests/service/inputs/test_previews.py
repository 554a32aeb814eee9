from __future__ import annotations

import io
from contextlib import closing
from typing import Any

import pytest
from PIL import Image

from service.inputs.body import SentFile
from service.inputs.pictures import DecodedPictures
from service.inputs.previews import PreviewedPictures
from service.inputs.scratch import Scratch
from service.settings import Limits
from tests.service.pictures import encode, make_picture

EXIF_ORIENTATION = 0x0112


def preview_of(content: bytes) -> bytes:
    file = SentFile("a", io.BytesIO(content))
    with closing(Scratch()) as scratch, closing(DecodedPictures([file], Limits())) as decoded:
        pictures = PreviewedPictures(decoded, scratch)
        assert len(pictures) == 1
        assert pictures[0].mode == "RGB"
        previews = pictures.previews
    return previews[0].tobytes()


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_small_upright_picture_is_kept_as_it_was_sent(format: str) -> None:
    content = encode(make_picture(), format)
    assert preview_of(content) == content


def test_a_large_picture_is_made_smaller() -> None:
    with Image.open(io.BytesIO(preview_of(encode(make_picture(2000, 1500), "JPEG")))) as preview:
        assert (preview.format, preview.size) == ("JPEG", (1024, 768))


def turned() -> dict[str, Any]:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    return {"exif": exif}


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (encode(make_picture(), "JPEG", **turned()), (90, 120)),
        (encode(make_picture(), "PNG", **turned()), (90, 120)),
        (encode(make_picture().convert("RGBA"), "PNG"), (120, 90)),
        (encode(make_picture(), "WEBP"), (120, 90)),
    ],
    ids=["turned by EXIF", "PNG turned by EXIF", "with transparency", "WebP"],
)
def test_what_not_every_browser_shows_upright_becomes_a_jpeg(
    content: bytes, size: tuple[int, int]
) -> None:
    with Image.open(io.BytesIO(preview_of(content))) as preview:
        assert (preview.format, preview.size) == ("JPEG", size)
