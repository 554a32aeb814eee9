from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from service.exports.previews import write_picture_preview
from service.result.scene import Scene
from tests.service.pictures import encode, make_picture


def seen(scene: Scene, index: int, side: int, folder: Path) -> Image.Image:
    path = folder / "preview.jpg"
    write_picture_preview(scene, index, side, path)
    with Image.open(path) as picture:
        assert picture.format == "JPEG"
        return picture.copy()


def test_an_original_is_shown_at_its_shape(refined_scene: Scene, tmp_path: Path) -> None:
    picture = refined_scene.document.pictures[0].original_size
    found = seen(refined_scene, 0, 1024, tmp_path)
    assert found.size == (picture.width, picture.height)
    assert seen(refined_scene, 0, 40, tmp_path).size[0] == 40
    error = np.asarray(found, float) - refined_scene.original(0)
    assert np.abs(error).mean() < 6


def test_a_kept_preview_is_given_as_it_is_or_smaller(scene: Scene, tmp_path: Path) -> None:
    kept = [encode(make_picture(120, 90, seed), "JPEG") for seed in (0, 1)]
    holding = replace(scene, previews=tuple(np.frombuffer(each, np.uint8) for each in kept))
    seen(holding, 1, 1024, tmp_path)
    assert (tmp_path / "preview.jpg").read_bytes() == kept[1]
    assert seen(holding, 1, 60, tmp_path).size == (60, 45)


def test_without_either_it_is_what_the_network_saw(scene: Scene, tmp_path: Path) -> None:
    assert seen(scene, 0, 1024, tmp_path).size == (96, 72)
    assert seen(scene, 1, 1024, tmp_path).size == (72, 96)
