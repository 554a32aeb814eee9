from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from refinement.photograph import photograph_of


def save(path: Path, tags: dict[int, object], details: dict[int, object]) -> Path:
    image = Image.new("RGB", (300, 200))
    exif = Image.Exif()
    exif.update(tags)
    exif.get_ifd(0x8769).update(details)
    image.save(path, exif=exif)
    return path


def test_a_picture_without_exif_has_a_size_only(tmp_path: Path) -> None:
    found = photograph_of(save(tmp_path / "a.jpg", {}, {}))
    assert (found.height, found.width, found.lens, found.focal) == (200, 300, None, None)


def test_exif_names_the_lens_and_gives_its_focal_length_in_pixels(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", {0x010F: "Maker", 0x0110: "Model"}, {0x920A: 4.5, 0xA405: 26})
    found = photograph_of(path)
    assert found.lens == "Maker Model 4.5 26"
    assert found.focal == pytest.approx(26 / 36 * 300)  # 3 : 2, as the film


def test_digital_zoom_is_part_of_the_lens(tmp_path: Path) -> None:
    lenses = []
    for zoom in (0.0, 1.0, 2.0):
        details = {0x920A: 4.5, 0xA405: 26, 0xA404: zoom}
        lenses.append(photograph_of(save(tmp_path / "a.jpg", {0x0110: "Model"}, details)).lens)
    assert lenses == ["Model 4.5 26", "Model 4.5 26", "Model 4.5 26 2.0"]


def test_a_focal_length_of_nothing_is_none(tmp_path: Path) -> None:
    assert photograph_of(save(tmp_path / "a.jpg", {}, {0xA405: 0})).focal is None


def test_a_picture_that_exif_turns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="upright"):
        photograph_of(save(tmp_path / "a.jpg", {0x0112: 6}, {}))


def test_a_picture_of_another_kind_is_refused(tmp_path: Path) -> None:
    Image.new("L", (30, 20)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="expected JPEG or PNG in RGB"):
        photograph_of(tmp_path / "a.png")
