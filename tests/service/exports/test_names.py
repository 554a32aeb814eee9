from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from service.exports.arrays import write_npz
from service.exports.cameras import cameras_json, transforms_json
from service.exports.colmap import write_colmap
from service.exports.names import exported_names
from service.exports.options import PointOptions
from service.exports.points import select_points
from service.result.scene import Scene

NAMES = [
    ["left/0001.png", "right/0001.png"],
    ["a b.png", "a_b.png"],
    ["a b.png", "a\u3000b.png"],
    ["my scan/1.png", "my_scan/1.png"],
]


@pytest.mark.parametrize("names", NAMES)
def test_every_export_gives_pictures_the_same_distinct_names(
    scene: Scene, names: list[str], tmp_path: Path
) -> None:
    pictures = [
        picture.model_copy(update={"filename": name})
        for name, picture in zip(names, scene.document.pictures, strict=True)
    ]
    document = scene.document.model_copy(update={"pictures": pictures})
    renamed = replace(scene, document=document)
    cloud = select_points(renamed, PointOptions(max_points=50))
    found: dict[str, list[str]] = {}
    for text in (False, True):
        write_colmap(renamed, cloud, tmp_path / "colmap.zip", text=text)
        with zipfile.ZipFile(tmp_path / "colmap.zip") as archive:
            archive.extractall(tmp_path / str(text))
        model = pycolmap.Reconstruction(tmp_path / str(text) / "sparse" / "0")
        found[f"colmap, text {text}"] = [model.images[id].name for id in (1, 2)]
    frames = transforms_json(renamed)["frames"]
    found["transforms"] = [frame["file_path"].removeprefix("images/") for frame in frames]
    found["cameras"] = [camera["file"] for camera in cameras_json(renamed)["cameras"]]
    write_npz(renamed, tmp_path / "scene.npz")
    with np.load(tmp_path / "scene.npz") as arrays:
        found["npz"] = arrays["filenames"].tolist()
    assert set(map(tuple, found.values())) == {tuple(exported_names(renamed))}, found
    assert len(set(exported_names(renamed))) == 2
