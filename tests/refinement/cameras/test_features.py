from __future__ import annotations

from pathlib import Path

import pytest

from refinement.photograph import Photograph

pytest.importorskip("pycolmap")

from refinement.cameras.features import lens_groups

PICTURES = [
    Photograph(Path("a"), 600, 800, "wide"),
    Photograph(Path("b"), 600, 800, "tele"),
    Photograph(Path("c"), 600, 800, "wide"),
    Photograph(Path("d"), 800, 600, "wide"),
    Photograph(Path("e"), 600, 800),
    Photograph(Path("f"), 600, 800),
]


def test_pictures_of_one_size_and_one_lens_share_it() -> None:
    assert lens_groups(PICTURES, "auto") == [0, 1, 0, 2, 3, 3]


def test_one_size_is_enough_if_asked_for() -> None:
    assert lens_groups(PICTURES, "shared") == [0, 0, 0, 1, 0, 0]


def test_every_picture_has_its_own_lens_if_asked_for() -> None:
    assert lens_groups(PICTURES, "each") == [0, 1, 2, 3, 4, 5]
