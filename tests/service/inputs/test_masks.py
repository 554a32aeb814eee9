from __future__ import annotations

import io
import unicodedata

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.scene.preprocess import ImageTransform
from service.errors import InvalidOption, UnsupportedPicture
from service.inputs.body import SentFile
from service.inputs.masks import match_masks, read_mask
from service.settings import Limits
from tests.model.scene.test_pictures import COLOUR, png16
from tests.service.pictures import encode

SIZE = (40, 30)
TRANSFORM = ImageTransform((30, 40), (30, 40), (1.0, 1.0), (0.0, 0.0))
LEFT = np.broadcast_to(np.arange(40)[None] < 20, (30, 40))


def sent(*names: str) -> list[SentFile]:
    return [SentFile(name, io.BytesIO()) for name in names]


def matched(masks: list[str], pictures: list[str]) -> list[str | None]:
    found, warnings = match_masks(sent(*masks), sent(*pictures))
    assert warnings == []
    return [mask and mask.name for mask in found]


@pytest.mark.parametrize(
    "pattern",
    ["{name}.png", "{stem}.png", "{stem}_mask.png", "{name}_mask.png", "{stem}-mask.jpg",
     "{stem}.mask.png", "mask_{stem}.png", "{name}"],
)  # fmt: skip
def test_masks_are_matched_by_name_in_whatever_order_they_come(pattern: str) -> None:
    first, second = (pattern.format(name=f"{stem}.jpg", stem=stem) for stem in "ab")
    assert matched([first, second], ["b.jpg", "a.jpg"]) == [second, first]
    assert matched([second], ["a.jpg", "b.jpg"]) == [None, second]


def test_the_full_name_says_more_than_the_name_without_its_suffix() -> None:
    assert matched(["a.png.png", "a.jpg.png"], ["a.jpg", "a.png"]) == ["a.jpg.png", "a.png.png"]
    assert matched(["a_mask.png", "a.png"], ["a.jpg", "a_mask.jpg"]) == ["a.png", "a_mask.png"]


def test_folders_tell_masks_of_the_same_name_apart() -> None:
    pictures = ["left/1.png", "right/1.png"]
    expected = ["left/1.png.png", "right/1.png.png"]
    assert matched(expected[::-1], pictures) == expected
    expected = ["masks/left/1.png", "masks/right/1.png"]
    assert matched(expected[::-1], pictures) == expected
    assert matched(["masks/2.png", "masks/1.png"], ["scan/images/1.jpg", "scan/images/2.jpg"]) == [
        "masks/1.png",
        "masks/2.png",
    ]


@pytest.mark.parametrize("pattern", ["{}/masks", "masks/{}", "{}_mask", "room/{}/masks/fine"])
def test_the_folder_of_a_mask_may_stand_anywhere_in_its_path(pattern: str) -> None:
    pictures = ["room/left/images/1.jpg", "room/right/images/1.jpg"]
    masks = [f"{pattern.format(side)}/1.png" for side in ("left", "right")]
    assert matched(masks[::-1], pictures) == masks


@pytest.mark.parametrize("mask", ["IMG_1.jpg.png", "img_1.PNG", "IMG_1_MASK.png", "Mask_IMG_1.png"])
def test_names_fit_in_upper_and_lower_case(mask: str) -> None:
    other = mask.replace("1", "2")
    assert matched([other, mask], ["IMG_1.JPG", "IMG_2.JPG"]) == [mask, other]


def test_a_name_as_it_is_written_says_more_than_one_in_another_case() -> None:
    assert matched(["A.png", "a.png"], ["a.jpg", "A.jpg"]) == ["a.png", "A.png"]


def test_composed_and_decomposed_letters_are_the_same_name() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Küche.jpg") for form in ("NFC", "NFD"))
    assert matched([f"{decomposed}.png"], ["a.jpg", composed]) == [None, f"{decomposed}.png"]


def test_masks_whose_names_say_nothing_are_taken_in_order_and_that_is_said() -> None:
    found, warnings = match_masks(sent("m1.png", "m2.png"), sent("a.jpg", "b.jpg"))
    assert [mask and mask.name for mask in found] == ["m1.png", "m2.png"]
    assert [warning.code for warning in warnings] == ["masks-by-order"]
    found, warnings = match_masks(sent("1.png", "1.png"), sent("1.jpg", "1.jpg"))
    assert [warning.code for warning in warnings] == ["masks-by-order"]
    assert match_masks((), sent("a.jpg")) == ([None], [])


@pytest.mark.parametrize(
    ("masks", "pictures", "words"),
    [
        (["z.png"], ["a.jpg", "b.jpg"], "1 masks were sent for 2 pictures"),
        (["a.png", "z.png"], ["a.jpg", "b.jpg"], "mask z.png fits no picture"),
        (["a.png", "a_mask.png"], ["a.jpg", "b.jpg"], "a.png and a_mask.png both fit a.jpg"),
        (["1.png", "b.png"], ["l/1.jpg", "r/1.jpg", "b.jpg"], "mask 1.png fits 2 pictures"),
    ],
)
def test_names_that_contradict_each_other_are_refused(
    masks: list[str], pictures: list[str], words: str
) -> None:
    with pytest.raises(InvalidOption, match=words):
        match_masks(sent(*masks), sent(*pictures))


def kept(mask: Image.Image, format: str = "PNG", **options: object) -> NDArray[np.bool_]:
    file = SentFile("mask.png", io.BytesIO(encode(mask, format, **options)))
    return read_mask(file, TRANSFORM, Limits())


def grey(left: int, right: int, mode: str = "L") -> Image.Image:
    return Image.fromarray(np.where(LEFT, left, right).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize(
    ("left", "right"), [(255, 0), (1, 0), (128, 127), (200, 100), (100, 0), (2, 0)]
)
def test_white_keeps_and_black_hides_and_of_0_and_1_1_keeps(left: int, right: int) -> None:
    np.testing.assert_array_equal(kept(grey(left, right)), LEFT)


def test_masks_of_one_bit_and_of_sixteen_are_read() -> None:
    np.testing.assert_array_equal(kept(grey(255, 0, "1")), LEFT)
    sixteen = Image.fromarray(np.where(LEFT, 65535, 0).astype(np.uint16))
    np.testing.assert_array_equal(kept(sixteen), LEFT)


@pytest.mark.parametrize("value", [1, 100, 128])
def test_small_values_of_sixteen_bits_keep_as_those_of_eight_do(value: int) -> None:
    """As programs write masks of 0 and 1 that make them from arrays of 16 bits."""
    mask = np.where(LEFT, value, 0).astype(np.uint16)
    np.testing.assert_array_equal(kept(Image.fromarray(mask)), LEFT)
    file = SentFile("mask.png", png16(mask[..., None].repeat(3, axis=2), COLOUR))
    np.testing.assert_array_equal(read_mask(file, TRANSFORM, Limits()), LEFT)


@pytest.mark.parametrize(
    "colour", [(128, 0, 0), (0, 0, 255), (64, 0, 0), (1, 1, 1), (255, 255, 255)]
)
def test_in_a_palette_every_colour_but_black_keeps(colour: tuple[int, int, int]) -> None:
    palette = Image.fromarray(np.where(LEFT, 1, 0).astype(np.uint8))
    palette.putpalette([0, 0, 0, *colour])
    np.testing.assert_array_equal(kept(palette), LEFT)


def test_dark_and_bright_classes_of_a_palette_are_kept_alike() -> None:
    classes = np.where(LEFT, 1, 0) + np.where(LEFT, np.arange(30)[:, None] % 2, 0)
    palette = Image.fromarray(classes.astype(np.uint8))
    palette.putpalette([0, 0, 0, 64, 0, 0, 192, 128, 128])
    np.testing.assert_array_equal(kept(palette), LEFT)


@pytest.mark.parametrize("colour", [0, 90, 255])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_in_a_cut_out_alpha_counts(colour: int, mode: str) -> None:
    picture = Image.new("L", SIZE, colour).convert(mode)
    picture.putalpha(grey(255, 0))
    np.testing.assert_array_equal(kept(picture), LEFT)


def test_alpha_that_hides_nothing_leaves_it_to_the_colours() -> None:
    opaque = grey(255, 0).convert("RGBA")
    np.testing.assert_array_equal(kept(opaque), LEFT)


def test_what_hides_everything_keeps_nothing() -> None:
    assert not kept(grey(0, 0)).any()
    clear = Image.new("RGBA", SIZE, (255, 255, 255, 0))
    assert not kept(clear).any()


def test_a_mask_that_is_no_picture_is_named() -> None:
    with pytest.raises(UnsupportedPicture, match=r"m\.png is not a"):
        read_mask(SentFile("m.png", io.BytesIO(b"text")), TRANSFORM, Limits())
