from __future__ import annotations

import io
from contextlib import closing

import pytest
from PIL.PngImagePlugin import PngInfo

from service.errors import BrokenPicture
from service.inputs import pictures
from service.inputs.body import SentFile
from service.inputs.decoding import decoder
from service.inputs.pictures import DecodedPictures
from service.settings import Limits
from tests.service.inputs.test_decoding import children
from tests.service.pictures import encode, make_picture
from tests.service.running import wait_until


def test_pictures_are_upright_and_over_white() -> None:
    picture = make_picture(20, 10).convert("LA")
    picture.putalpha(0)
    exif = picture.getexif()
    exif[0x0112] = 6
    data = io.BytesIO(encode(picture, exif=exif))
    with closing(DecodedPictures([SentFile("a.png", data)], Limits())) as decoded:
        assert (decoded[0].mode, decoded[0].size) == ("RGB", (10, 20))
        assert decoded[0].getextrema() == ((255, 255),) * 3


def test_a_hostile_text_chunk_breaks_only_its_picture() -> None:
    text = PngInfo()
    text.add_itxt("bomb", "0" * 80_000_000, zip=True)
    picture = SentFile("bomb.png", io.BytesIO(encode(make_picture(), pnginfo=text)))
    with (
        pytest.raises(BrokenPicture, match=r"bomb\.png"),
        closing(DecodedPictures([picture], Limits())) as decoded,
    ):
        decoded[0]


def test_every_header_is_checked_before_the_first_picture_is_decoded() -> None:
    fine, broken = encode(make_picture()), encode(make_picture())[:20]
    with pytest.raises(BrokenPicture, match=r"b\.png"):
        DecodedPictures(
            [SentFile("a.png", io.BytesIO(fine)), SentFile("b.png", io.BytesIO(broken))], Limits()
        )


def test_pictures_come_in_any_order_as_often_as_they_are_asked_for() -> None:
    made = [make_picture(20 + seed, 10, seed) for seed in range(4)]
    files = [SentFile(f"{i}.png", io.BytesIO(encode(each))) for i, each in enumerate(made)]
    with closing(DecodedPictures(files, Limits())) as decoded:
        for index in (0, 1, 3, 0, 2, 2, 3):
            assert decoded[index].tobytes() == made[index].tobytes()
        assert [each.size for each in decoded] == [each.size for each in made]


def test_a_broken_picture_is_named_when_it_is_asked_for_and_those_behind_it_are_decoded() -> None:
    data = [encode(make_picture(seed=seed)) for seed in range(3)]
    data[1] = data[1][: len(data[1]) // 2]
    files = [SentFile(f"{i}.png", io.BytesIO(each)) for i, each in enumerate(data)]
    with closing(DecodedPictures(files, Limits())) as decoded:
        assert decoded[0].size == (120, 90)
        with pytest.raises(BrokenPicture, match=r"1\.png"):
            decoded[1]
        assert decoded[2].size == (120, 90)


@pytest.mark.parametrize(("most", "processes"), [(10_800, 2), (10_799, 1)])
def test_two_pictures_are_decoded_at_a_time_unless_they_are_large(
    monkeypatch: pytest.MonkeyPatch, most: int, processes: int
) -> None:
    wait_until(lambda: decoder._process is None or children(decoder) == [])  # of tests before
    monkeypatch.setattr(pictures, "_PIXELS_AT_ONCE", most)
    made = [make_picture(120, 90, seed) for seed in range(5)]
    files = [SentFile(f"{i}.png", io.BytesIO(encode(each))) for i, each in enumerate(made)]
    with closing(DecodedPictures(files, Limits())) as decoded:
        for index, picture in enumerate(made):
            assert decoded[index].tobytes() == picture.tobytes()
            wait_until(lambda: len(children(decoder)) == processes)  # the next is begun meanwhile
