from __future__ import annotations

import io
import json
import unicodedata

import pytest

from service.errors import InvalidOption, NoPictures, TooManyPictures
from service.inputs.body import SentFile, Upload
from service.inputs.collection import collected
from service.inputs.options import Options, read_options
from service.settings import Limits
from tests.service.inputs.test_archive import archive

LIMITS = Limits(max_images=4)


def files(*names: str) -> tuple[SentFile, ...]:
    return tuple(SentFile(name, io.BytesIO(b"\xff\xd8\xff" + bytes(20))) for name in names)


def order(upload: tuple[SentFile, ...], **options: str) -> list[str]:
    with collected(Upload(upload, (), {}), read_options(options), LIMITS) as found:
        return [picture.name for picture in found.pictures]


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


def test_folders_of_an_archive_follow_each_other_in_natural_order() -> None:
    sent = archive(
        *((name, b"x") for name in ("right/1.jpg", "left/10.jpg", "left-b/1.jpg", "left/9.jpg"))
    )
    assert order((sent,)) == ["left/9.jpg", "left/10.jpg", "left-b/1.jpg", "right/1.jpg"]


def test_a_manifest_names_pictures_by_path_or_by_name_where_that_is_enough() -> None:
    sent = archive(*((name, b"x") for name in ("s/left/1.jpg", "s/right/1.jpg", "s/right/2.jpg")))
    manifest = '["s/right/1.jpg", "left/1.jpg", "2.jpg"]'
    assert order((sent,), manifest=manifest) == ["s/right/1.jpg", "s/left/1.jpg", "s/right/2.jpg"]
    sent.file.seek(0)
    with pytest.raises(InvalidOption, match=r"same name '1\.jpg'"):
        order((sent,), manifest='["1.jpg"]')


def test_composed_and_decomposed_letters_are_the_same_name_in_a_manifest() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Küche.jpg") for form in ("NFC", "NFD"))
    assert order(files("a.jpg", decomposed), manifest=json.dumps([composed])) == [decomposed]
    assert order(files("a.jpg", composed), manifest=json.dumps([decomposed])) == [composed]


def test_no_two_pictures_have_the_same_name() -> None:
    sent = (*files("1.jpg", "1.jpg"), archive(("1.jpg", b"x"), ("a/1.jpg", b"x")))
    assert order(sent) == ["1.jpg", "1-2.jpg", "1-3.jpg", "a/1.jpg"]


def test_what_an_archive_holds_beside_pictures_is_said() -> None:
    others = [(f"{i}.json", b"{}") for i in range(7)]
    sent = Upload((archive(("a.jpg", b"x"), *others),), (), {})
    with collected(sent, Options(), LIMITS) as found:
        (warning,) = found.warnings
    assert warning.code == "files-skipped"
    assert "0.json, 1.json, 2.json, 3.json, 4.json and 2 more" in warning.message
    with (
        pytest.raises(NoPictures, match=r"Not taken: notes\.txt\. Send JPEG, PNG"),
        collected(Upload((archive(("notes.txt", b"x")),), (), {}), Options(), LIMITS),
    ):
        pass


def test_depth_maps_and_masks_in_an_archive_are_no_pictures_of_the_scene() -> None:
    """But a mask may be called so where masks are sent, and a manifest chooses what it wants."""
    entries = [(name, b"x") for name in ("depth/1.png", "images/1.jpg", "masks/1.png")]
    sent = Upload((archive(*entries),), (archive(*entries[1:]),), {})
    with collected(sent, read_options({"manifest": '["masks/1.png"]'}), LIMITS) as found:
        assert [picture.name for picture in found.pictures] == ["masks/1.png"]
    sent = Upload((archive(*entries),), (archive(entries[2]),), {})
    with collected(sent, Options(), LIMITS) as found:
        assert [picture.name for picture in found.pictures] == ["images/1.jpg"]
        assert [mask and mask.name for mask in found.masks] == ["masks/1.png"]
        (warning,) = found.warnings
    assert "Not taken: depth/1.png, masks/1.png" in warning.message


@pytest.mark.parametrize(
    "options", [{"order": "natural"}, {"manifest": '["1.jpg", "2.jpg", "10.jpg"]'}]
)
def test_masks_without_names_follow_the_pictures_that_they_were_sent_with(
    options: dict[str, str],
) -> None:
    sent = Upload(files("10.jpg", "2.jpg", "1.jpg"), files("m10", "m2", "m1"), {})
    with collected(sent, read_options(options), LIMITS) as found:
        assert [picture.name for picture in found.pictures] == ["1.jpg", "2.jpg", "10.jpg"]
        assert [mask and mask.name for mask in found.masks] == ["m1", "m2", "m10"]


def test_a_manifest_may_leave_out_pictures_that_have_masks() -> None:
    sent = Upload(files("a.jpg", "b.jpg"), files("a.png", "b.png"), {})
    with collected(sent, read_options({"manifest": '["b.jpg"]'}), LIMITS) as found:
        assert [mask and mask.name for mask in found.masks] == ["b.png"]


def test_masks_may_come_as_an_archive() -> None:
    pictures = archive(("left/1.jpg", b"x"), ("right/1.jpg", b"x"))
    masks = archive(("right/1.jpg.png", b"x"), ("left/1.jpg.png", b"x"))
    with collected(Upload((pictures,), (masks,), {}), Options(), LIMITS) as found:
        assert [mask and mask.name for mask in found.masks] == ["left/1.jpg.png", "right/1.jpg.png"]
        opened = found.masks[0]
    assert opened is not None
    assert opened.file.closed


def test_pictures_are_counted_after_unpacking() -> None:
    with pytest.raises(TooManyPictures):
        order((*files("1.jpg", "2.jpg", "3.jpg"), archive(("4.jpg", b"x"), ("5.jpg", b"x"))))
    with pytest.raises(NoPictures):
        order((archive(("folder/", b"")),))


def test_what_was_unpacked_is_closed_afterwards() -> None:
    with collected(Upload((archive(("a.jpg", b"x")),), (), {}), Options(), LIMITS) as found:
        opened = found.pictures[0].file
    assert opened.closed
