from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.families.family import Grid
from model.preprocess import preprocess_images
from service.errors import BrokenPicture, InvalidOption
from service.inputs.body import SentFile, Upload
from service.inputs.options import read_options
from service.inputs.prepared import PreparedScene, prepare
from service.settings import Limits
from tests.service.pictures import encode, make_picture

LIMITS = Limits()
SIZES = ((120, 90), (90, 120))


def upload(*masks: Image.Image) -> Upload:
    pictures = [encode(make_picture(*size, seed=seed)) for seed, size in enumerate(SIZES)]
    return Upload(
        tuple(SentFile(f"{i}.png", io.BytesIO(data)) for i, data in enumerate(pictures)),
        tuple(SentFile(f"mask{i}.png", io.BytesIO(encode(mask))) for i, mask in enumerate(masks)),
        {},
    )


def scene(*masks: Image.Image, **options: str) -> PreparedScene:
    return prepare(upload(*masks), read_options(options), LIMITS, Grid(96, 12))


def test_the_network_gets_exactly_what_preprocessing_gives() -> None:
    expected = preprocess_images(
        [make_picture(*size, seed=seed) for seed, size in enumerate(SIZES)], "fit", 96, 12
    )
    batch = scene().batch()
    assert (batch.images == expected.images).all()
    assert batch.transforms == expected.transforms


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    first = scene(confidence="10", timeout="5", outputs="scene.glb")
    first.save(tmp_path)
    second = PreparedScene.load(tmp_path)
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert (first.transforms, first.filenames, first.options) == (
        second.transforms,
        second.filenames,
        second.options,
    )
    assert first.seconds == second.seconds


def test_what_an_older_version_left_in_the_queue_is_loaded(tmp_path: Path) -> None:
    first = scene(confidence="10")
    np.save(tmp_path / "pixels.npy", first.pixels)
    np.save(tmp_path / "keep.npy", first.keep)
    document = {**first._document(), "seconds": first.seconds}
    (tmp_path / "scene.json").write_text(json.dumps(document))
    second = PreparedScene.load(tmp_path)
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert first.fingerprint("m") == second.fingerprint("m")


def test_the_fingerprint_follows_everything_that_decides_the_result() -> None:
    mine = scene().fingerprint("model")
    assert scene().fingerprint("model") == mine
    assert scene(timeout="5", outputs="scene.glb").fingerprint("model") == mine
    others = [
        scene().fingerprint("another model"),
        scene(confidence="10").fingerprint("model"),
        scene(mode="pad").fingerprint("model"),
        scene(*(Image.new("L", size, 0) for size in SIZES)).fingerprint("model"),
    ]
    assert len({mine, *others}) == 5


def test_a_mask_hides_the_pixels_that_it_covers() -> None:
    left = Image.new("L", SIZES[0], 255)
    left.paste(0, (0, 0, 60, 90))
    keep = scene(left, Image.new("L", SIZES[1], 255)).keep
    rows = slice(12, 84)  # 96 x 72 pixels of content in the middle of a square
    assert not keep[0, rows, :48].any()
    assert keep[0, rows, 48:].all()
    assert keep[1].all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cameras": "[null]"}, "cameras has 1 entries; there are 2"),
        ({"cameras": '[{"extrinsic": [[1,0,0,0],[0,1,0,0],[0,0,1,0]]}, null]'}, "at least two"),
        ({"frames": "0,2"}, "frames names picture 2"),
        (
            {
                "known_distance": '{"a":{"picture":2,"x":1,"y":2},'
                '"b":{"picture":0,"x":1,"y":3},"metres":1}'
            },
            "picture 2; there are pictures 0 to 1",
        ),
        (
            {
                "known_distance": '{"a":{"picture":1,"x":90,"y":2},'
                '"b":{"picture":0,"x":1,"y":3},"metres":1}'
            },
            "outside picture 1 of 90 x 120",
        ),
        ({"query_points": "[[0, 90]]"}, "outside the first picture of 120 x 90"),
    ],
)
def test_options_that_do_not_fit_the_pictures_are_refused(
    options: dict[str, str], words: str
) -> None:
    with pytest.raises(InvalidOption, match=words):
        scene(**options)


QUARTER_TURN = [[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]
NO_TURN = [[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]


def cameras(*centres: tuple[float, float, float]) -> str:
    """Two cameras with these centres, turned against each other, as text rounded as people round
    it."""
    found = []
    for rotation, centre in zip((NO_TURN, QUARTER_TURN), centres, strict=True):
        translation = -np.array(rotation) @ centre
        rows = np.c_[rotation, translation].round(7).tolist()
        found.append({"extrinsic": rows})
    return json.dumps(found)


@pytest.mark.parametrize("centre", [(0.0, 0.0, 0.0), (1.2, -0.3, 5.0), (1234.5678912, 5.0, -77.0)])
def test_known_cameras_in_one_place_fix_no_scale(centre: tuple[float, float, float]) -> None:
    with pytest.raises(InvalidOption, match="in one place"):
        scene(cameras=cameras(centre, centre))


@pytest.mark.parametrize("centre", [(0.0, 0.0, 0.0), (1234.5, 5.0, -77.0)])
def test_known_cameras_a_centimetre_apart_do(centre: tuple[float, float, float]) -> None:
    x, y, z = centre
    assert scene(cameras=cameras(centre, (x + 0.01, y, z))).options.cameras is not None


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(
        InvalidOption, match="is 10 x 10 pixels, its upright picture 120 x 90; send"
    ):
        scene(Image.new("L", (10, 10)), Image.new("L", SIZES[1]))


def test_a_picture_of_an_absurd_shape_is_named() -> None:
    sent = [SentFile("good.png", io.BytesIO(encode(make_picture())))]
    sent.append(SentFile("strip.png", io.BytesIO(encode(make_picture(1, 500)))))
    with pytest.raises(BrokenPicture, match=r"^strip\.png can't be used: .* too long") as refused:
        prepare(Upload(tuple(sent), (), {}), read_options({}), LIMITS, Grid(96, 12))
    assert refused.value.fields == {"index": 1, "filename": "strip.png"}


def test_a_mask_that_hides_all_of_a_picture_is_said() -> None:
    white, black = Image.new("L", SIZES[0], 255), Image.new("L", SIZES[1], 0)
    found = scene(white, black).warnings
    assert [warning.code for warning in found] == ["masks-by-order", "mask-hides-all"]
    assert "mask1.png" in found[1].message
    assert scene().warnings == ()


def test_warnings_are_saved_and_belong_to_the_fingerprint(tmp_path: Path) -> None:
    first = scene(*(Image.new("L", size, 255) for size in SIZES))
    first.save(tmp_path)
    assert PreparedScene.load(tmp_path).warnings == first.warnings != ()
    assert first.fingerprint("m") != scene().fingerprint("m")
