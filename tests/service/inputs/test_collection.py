from __future__ import annotations

import io

import pytest

from service.errors import InvalidOption, NoPictures, TooManyPictures
from service.inputs.body import SentFile, Upload
from service.inputs.collection import collected, match_masks
from service.inputs.options import Options, read_options
from service.settings import Limits
from tests.service.inputs.test_archive import archive

LIMITS = Limits(max_images=4)


def files(*names: str) -> tuple[SentFile, ...]:
    return tuple(SentFile(name, io.BytesIO(b"\xff\xd8\xff" + bytes(20))) for name in names)


def order(upload: tuple[SentFile, ...], **options: str) -> list[str]:
    with collected(Upload(upload, (), {}), read_options(options), LIMITS) as pictures:
        return [picture.name for picture in pictures]


def test_pictures_keep_the_order_in_which_they_were_sent() -> None:
    assert order(files("10.jpg", "2.jpg", "a.jpg")) == ["10.jpg", "2.jpg", "a.jpg"]


def test_natural_order_puts_2_before_10() -> None:
    assert order(files("10.jpg", "b1.jpg", "2.jpg", "B0.jpg"), order="natural") == [
        "2.jpg",
        "10.jpg",
        "B0.jpg",
        "b1.jpg",
    ]


def test_an_archive_is_unpacked_in_natural_order_where_it_was_sent() -> None:
    sent = (*files("first.jpg"), archive(("img10.jpg", b"x"), ("img9.jpg", b"x")))
    assert order(sent) == ["first.jpg", "img9.jpg", "img10.jpg"]


def test_a_manifest_chooses_and_orders() -> None:
    assert order(files("a.jpg", "b.jpg", "c.jpg"), manifest='["c.jpg", "a.jpg"]') == [
        "c.jpg",
        "a.jpg",
    ]


@pytest.mark.parametrize(
    ("names", "manifest", "words"),
    [
        (("a.jpg",), '["b.jpg"]', "was not sent"),
        (("a.jpg",), '["a.jpg", "a.jpg"]', "twice"),
        (("a.jpg", "a.jpg"), '["a.jpg"]', "same name"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    names: tuple[str, ...], manifest: str, words: str
) -> None:
    with pytest.raises(InvalidOption, match=words):
        order(files(*names), manifest=manifest)


def test_pictures_are_counted_after_unpacking() -> None:
    with pytest.raises(TooManyPictures):
        order((*files("1.jpg", "2.jpg", "3.jpg"), archive(("4.jpg", b"x"), ("5.jpg", b"x"))))
    with pytest.raises(NoPictures):
        order((archive(("folder/", b"")),))


def test_masks_are_matched_by_name_or_else_by_order() -> None:
    pictures = files("a.jpg", "b.jpg")
    by_name = match_masks(files("b.png"), pictures)
    assert [mask and mask.name for mask in by_name] == [None, "b.png"]
    assert [mask and mask.name for mask in match_masks(files("1.png", "2.png"), pictures)] == [
        "1.png",
        "2.png",
    ]
    assert match_masks((), pictures) == [None, None]
    with pytest.raises(InvalidOption, match="1 masks were sent for 2"):
        match_masks(files("z.png"), pictures)


def test_what_was_unpacked_is_closed_afterwards() -> None:
    with collected(Upload((archive(("a.jpg", b"x")),), (), {}), Options(), LIMITS) as pictures:
        opened = pictures[0].file
    assert opened.closed
