from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.errors import NotFound
from service.exports.catalogue import CLOUD_FILES, PLAIN_FILES, Catalogue
from service.inputs.options import PointOptions
from service.result.scene import Scene
from service.storage.folder import Storage
from tests.service.storage.test_folder import ID, save


@pytest.fixture
def catalogue(tmp_path: Path, scene: Scene) -> Iterator[Catalogue]:
    storage = Storage(tmp_path)
    save(storage, scene)
    yield Catalogue(storage)
    storage.close()


def test_the_archive_holds_what_the_manifest_lists_with_the_sums_that_it_lists(catalogue: Catalogue) -> None:
    with zipfile.ZipFile(catalogue.archive(ID).path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        names = set(archive.namelist())
        assert names == set(manifest["files"]) | {"manifest.json", "result.json"}
        for name, told in manifest["files"].items():
            content = archive.read(name)
            assert len(content) == told["bytes"]
            assert hashlib.sha256(content).hexdigest() == told["sha256"]
    assert set(CLOUD_FILES) | set(PLAIN_FILES) | {"depth/0.exr", "confidence/1.npy", "pictures/0.png"} <= names
    assert manifest["model"]["kernels"] == "reference"
    assert manifest["scale"]["provenance"] == "network"
    assert "OpenCV" in manifest["world_frame"]


def test_the_same_options_give_the_same_file_and_others_another(catalogue: Catalogue) -> None:
    first, again = (catalogue.cloud_file(ID, "points.ply", PointOptions(max_points=10)) for _ in range(2))
    assert first.path == again.path
    assert catalogue.cloud_file(ID, "points.ply", PointOptions(max_points=11)).sha256 != first.sha256
    assert (
        catalogue.cloud_file(ID, "points.ply", PointOptions()).sha256
        == catalogue.cloud_file(ID, "points.ply", PointOptions(confidence=25)).sha256
    )


def test_files_are_the_same_bytes_whenever_they_are_made(catalogue: Catalogue, scene: Scene, tmp_path: Path) -> None:
    again = Storage(tmp_path / "again")
    save(again, scene)
    other = Catalogue(again)
    for name in CLOUD_FILES:
        mine, theirs = (each.cloud_file(ID, name, PointOptions()).sha256 for each in (catalogue, other))
        assert mine == theirs, name
    for name in PLAIN_FILES:
        assert catalogue.plain_file(ID, name).sha256 == other.plain_file(ID, name).sha256, name
    again.close()


def test_npz_holds_everything_on_both_grids(catalogue: Catalogue, scene: Scene) -> None:
    with np.load(catalogue.plain_file(ID, "scene.npz").path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["extrinsics"], scene.extrinsics())
        np.testing.assert_array_equal(arrays["depth_1"], scene.depth_map(1, "original"))
        assert arrays["confidence_0"].shape == (90, 120)
        assert arrays["world_points_network"].shape == (2, 96, 96, 3)
        assert arrays["filenames"].tolist() == ["a b.png", "b.png"]


def test_a_picture_is_shown_without_its_padding(catalogue: Catalogue) -> None:
    with Image.open(io.BytesIO(catalogue.picture(ID, 1).path.read_bytes())) as picture:
        assert picture.size == (72, 96)


@pytest.mark.parametrize("index", [-1, 2])
def test_a_picture_that_is_not_there_is_not_found(catalogue: Catalogue, index: int) -> None:
    with pytest.raises(NotFound, match="0 to 1"):
        catalogue.map_file(ID, "depth.npy", index, "original")
    with pytest.raises(NotFound):
        catalogue.picture(ID, index)
