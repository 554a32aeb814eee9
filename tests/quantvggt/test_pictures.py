from __future__ import annotations

import os
from pathlib import Path

import pytest

from model.scene import pictures
from quantvggt import BadInputError
from quantvggt.pictures import SUFFIXES, expand, names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("10.JPG", "2.jpg", "1.png", "notes.txt", ".hidden.jpg", "walk.mp4"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "0.webp").write_bytes(b"")
    (tmp_path / "album.jpg").mkdir()
    return tmp_path


def test_a_folder_is_its_pictures_in_natural_order(folder: Path) -> None:
    assert expand(folder) == [folder / "1.png", folder / "2.jpg", folder / "10.JPG"]
    assert expand(str(folder)) == expand([folder])


def test_a_pattern_is_the_files_that_match_it_in_natural_order(folder: Path) -> None:
    assert expand(str(folder / "*.[jJ]*")) == [folder / "2.jpg", folder / "10.JPG"]
    assert expand(str(folder / "**" / "*.webp")) == [folder / "more" / "0.webp"]


def test_all_of_them_mix_and_keep_their_order(folder: Path) -> None:
    url = "https://images.example.org/a.png?x=[1]"
    given = [str(folder / "walk.mp4"), folder / "more", url, str(folder / "2.*")]
    assert expand(given) == [folder / "walk.mp4", folder / "more" / "0.webp", url, folder / "2.jpg"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path) -> None:
    (folder / "a[1].jpg").write_bytes(b"")
    assert expand(folder / "a[1].jpg") == [folder / "a[1].jpg"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("none.jpg", "no such file"), ("*.gif", "matches no file"), ("empty", "holds no pictures")],
)
def test_a_name_that_leads_to_nothing_is_refused(folder: Path, name: str, words: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(BadInputError, match=words):
        expand(folder / name)


def test_what_counts_as_a_picture_is_what_can_be_decoded() -> None:
    assert SUFFIXES == pictures.SUFFIXES


def test_files_are_sent_under_their_own_names_unless_two_have_the_same(tmp_path: Path) -> None:
    left, right = tmp_path / "left", tmp_path / "right"
    assert names([left / "1.jpg", right / "2.jpg"]) == ["1.jpg", "2.jpg"]
    assert names([left / "1.jpg", right / "1.jpg"]) == ["left/1.jpg", "right/1.jpg"]
    assert names([tmp_path / "1.jpg", left / "1.jpg"]) == ["1.jpg", "left/1.jpg"]
    assert names([]) == []


def test_a_name_that_is_not_utf_8_is_sent_as_text() -> None:
    assert names([Path(os.fsdecode(b"z\xfcr.jpg"))]) == ["z\ufffdr.jpg"]
