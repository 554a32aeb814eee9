"""Which original pictures are kept for the refinement, and as what."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from model.families.family import Grid
from service.inputs.body import SentFile, Upload
from service.inputs.options import Options, read_options
from service.inputs.originals import RefinementOrder, original_file, photographs
from service.inputs.prepared import PreparedScene, prepare
from service.settings import Limits, RefinementSettings
from tests.service.pictures import encode, make_picture

TURNED = 6  # by a quarter to the right


def exif(orientation: int = 1, **lens: object) -> Image.Exif:
    made = Image.Exif()
    made[ExifTags.Base.Orientation] = orientation
    made[ExifTags.Base.Make] = "Maker"
    made[ExifTags.Base.Model] = "Model 1"
    made.get_ifd(ExifTags.IFD.Exif).update(
        {ExifTags.Base.FocalLength: 4.25, ExifTags.Base.FocalLengthIn35mmFilm: 26, **lens}
    )
    return made


def prepared(*pictures: bytes, **options: str) -> PreparedScene:
    sent = tuple(SentFile(f"{i}.jpg", io.BytesIO(data)) for i, data in enumerate(pictures))
    chosen = read_options({"refine": "cameras", **options})
    return prepare(Upload(sent, (), {}), chosen, Limits(), Grid(96, 12))


def saved(scene: PreparedScene, folder: Path) -> list[bytes]:
    """The files of the originals in the folder of a job's input."""
    scene.save(folder)
    scene.close()
    return [(folder / original_file(i)).read_bytes() for i in range(len(scene.originals))]


def test_an_upright_jpeg_is_kept_as_it_was_sent(tmp_path: Path) -> None:
    sent = encode(make_picture(), "JPEG", exif=exif())
    assert saved(prepared(sent), tmp_path) == [sent]


@pytest.mark.parametrize("form", ["PNG", "WEBP", "HEIF", "turned JPEG", "grey JPEG", "RGBA"])
def test_everything_else_is_kept_as_an_upright_rgb_jpeg(form: str, tmp_path: Path) -> None:
    picture = make_picture(120, 90)
    if form == "turned JPEG":
        sent, upright = encode(picture, "JPEG", exif=exif(TURNED)), picture.rotate(-90, expand=True)
    elif form == "grey JPEG":
        sent, upright = encode(picture.convert("L"), "JPEG"), picture.convert("L").convert("RGB")
    elif form == "RGBA":
        clear = picture.convert("RGBA")
        clear.putalpha(0)
        sent, upright = encode(clear), Image.new("RGB", picture.size, "white")
    else:
        sent, upright = encode(picture, form), picture
    (kept,) = saved(prepared(sent), tmp_path)
    found = Image.open(io.BytesIO(kept))
    assert (found.format, found.mode, found.size) == ("JPEG", "RGB", upright.size)
    assert not found.getexif()
    difference = np.asarray(found).astype(float) - np.asarray(upright)
    assert abs(difference).mean() < 3


def test_lens_and_focal_length_are_read_from_exif_before_it_is_lost(tmp_path: Path) -> None:
    jpeg = encode(make_picture(), "JPEG", exif=exif(TURNED))
    scene = prepared(jpeg, encode(make_picture()))
    saved(scene, tmp_path)
    first, second = photographs(tmp_path, PreparedScene.load(tmp_path).originals)
    assert (first.height, first.width, first.lens) == (120, 90, "Maker Model 1 4.25 26")
    assert first.focal == pytest.approx(26 * np.hypot(120, 90) / np.hypot(36, 24))
    assert (second.height, second.width, second.lens, second.focal) == (90, 120, None, None)
    with Image.open(first.path) as picture:
        assert picture.size == (first.width, first.height)


def test_pictures_zoomed_digitally_are_of_another_lens() -> None:
    """Some cameras keep both focal lengths as they are without zoom."""
    lenses = []
    for zoom in (None, 0.0, 1.0, 2.0):
        made = exif()
        if zoom is not None:
            made.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DigitalZoomRatio] = zoom
        with closing(prepared(encode(make_picture(), "JPEG", exif=made))) as scene:
            lenses.append(scene.originals[0].lens)
    assert lenses == ["Maker Model 1 4.25 26"] * 3 + ["Maker Model 1 4.25 26 2.0"]


def test_exif_of_other_types_than_it_should_have_tells_nothing() -> None:
    made = Image.Exif()
    made[ExifTags.Base.Model] = 7
    made.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = "wide"
    with closing(prepared(encode(make_picture(), "JPEG", exif=made))) as scene:
        (original,) = scene.originals
    assert original.focal is None


@pytest.mark.parametrize("film", [0, 3, 65535])
def test_a_focal_length_that_no_lens_has_is_not_believed(film: int) -> None:
    more = {ExifTags.Base.FocalLengthIn35mmFilm: film}
    made = exif()
    made.get_ifd(ExifTags.IFD.Exif).update(more)
    with closing(prepared(encode(make_picture(), "JPEG", exif=made))) as scene:
        (original,) = scene.originals
    assert original.focal is None


def test_without_refinement_no_original_is_kept(tmp_path: Path) -> None:
    scene = prepared(encode(make_picture(), "JPEG"), refine="off")
    assert (scene.refinement, scene.originals, scene.kept) == (None, (), None)
    scene.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["scene.safetensors"]
    assert PreparedScene.load(tmp_path).refinement is None


def test_the_fingerprint_follows_what_only_the_refinement_reads() -> None:
    small = make_picture(30, 24)
    large = small.resize((1200, 960), Image.Resampling.NEAREST)  # the same on the network's grid

    def of(picture: bytes, **options: str) -> str:
        scene = prepared(picture, **options)
        scene.close()
        return scene.fingerprint("model")

    plain, tagged = encode(large, "JPEG"), encode(large, "JPEG", exif=exif())
    assert of(plain, refine="off") == of(tagged, refine="off")
    assert of(plain) == of(plain)
    others = {of(plain), of(tagged), of(plain, refine="dense"), of(plain, refine_pixels="256")}
    assert len(others) == 4


def test_a_request_that_says_nothing_gets_what_the_service_does() -> None:
    settings = RefinementSettings(refine="dense", refine_seconds=60, refine_pixels=512)
    order = RefinementOrder.of(Options(), settings)
    assert order == RefinementOrder("dense", "auto", "radial", 512, 60)
    assert RefinementOrder.of(Options(refine="off"), settings) is None
    chosen = RefinementOrder.of(Options(refine="cameras", refine_seconds=999), settings)
    assert chosen is not None
    assert (chosen.wanted, chosen.seconds) == ("cameras", 60)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_picture_with_damaged_exif_data_is_kept_too() -> None:
    sent = encode(make_picture(120, 90), "JPEG", exif=b"Exif\0\0no TIFF header")
    with closing(prepared(sent)) as scene:
        (original,) = scene.originals
        assert (original.width, original.height, original.focal) == (120, 90, None)
