from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL.PngImagePlugin import PngInfo

from service.problems import BrokenPicture
from service.settings import Settings
from service.uploads import PictureFile, decode_pictures, display_name
from tests.service.pictures import encode, make_picture


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a.png", "a.png"),
        ("../../a.png", "a.png"),
        ("C:\\fakepath\\a.png", "a.png"),
        ("\x00\x1b[31ma\n.png", "[31ma.png"),
        ("Übersicht 1.jpg", "Übersicht 1.jpg"),
        ("x" * 500 + ".png", "x" * 116 + ".png"),
        ("", "picture-7"),
        ("..//", "picture-7"),
        (None, "picture-7"),
    ],
)
def test_a_display_name_is_one_printable_component(given: str | None, shown: str) -> None:
    assert display_name(given, 7) == shown


def test_exif_orientation_stays_with_the_picture_for_the_model_to_apply() -> None:
    picture = make_picture(20, 10)
    exif = picture.getexif()
    exif[0x0112] = 6
    data = io.BytesIO(encode(picture, "JPEG", exif=exif))
    decoded = decode_pictures([PictureFile("a.jpg", data)], Settings(artifact=Path("a")))
    assert decoded[0].size == (20, 10)
    assert decoded[0].getexif()[0x0112] == 6


def test_a_hostile_text_chunk_breaks_only_its_picture() -> None:
    text = PngInfo()
    text.add_itxt("bomb", "0" * 80_000_000, zip=True)
    picture = PictureFile("bomb.png", io.BytesIO(encode(make_picture(), pnginfo=text)))
    with pytest.raises(BrokenPicture, match=r"bomb\.png"):
        decode_pictures([picture], Settings(artifact=Path("a")))
