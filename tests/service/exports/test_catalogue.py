from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.errors import NotFound, NoTracks
from service.exports.catalogue import Catalogue, Files, write_files
from service.exports.options import MapOptions, PointFileOptions, PointOptions
from service.exports.records import BY_NAME, EXPORTS
from service.result.document import ReconstructionDocument
from service.result.scene import Scene
from service.storage.folder import Storage
from tests.service.storage.test_folder import ID, save


@pytest.fixture
def files(tmp_path: Path, scene: Scene) -> Iterator[Files]:
    storage = Storage(tmp_path)
    save(storage, scene)
    yield Catalogue(storage).files(ID)
    storage.close()


def test_the_archive_holds_what_the_manifest_lists_with_the_sums_that_it_lists(
    files: Files,
) -> None:
    with zipfile.ZipFile(files.file(BY_NAME["everything.zip"]).path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        names = set(archive.namelist())
        assert names == set(manifest["files"]) | {"manifest.json", "result.json"}
        for name, listed in manifest["files"].items():
            content = archive.read(name)
            assert len(content) == listed["bytes"]
            assert hashlib.sha256(content).hexdigest() == listed["sha256"]
        links = json.loads(archive.read("result.json"))["links"]
    assert {
        "scene.glb",
        "tracks.json",
        "depth/0.exr",
        "confidence/1.npy",
        "pictures/0.png",
    } <= names
    assert (links["self"], links["points"]) == ("result.json", "points.ply")
    assert manifest["model"]["kernels"] == "reference"
    assert manifest["scale"]["provenance"] == "network"
    assert "OpenCV" in manifest["world_frame"]


@pytest.mark.parametrize("most", [10, 10_000_000])
def test_a_viewer_is_given_points_however_many_the_result_was_asked_for(
    tmp_path: Path, scene: Scene, most: int
) -> None:
    """The option of a request bounds its files; a viewer has a bound of its own."""
    options = {**scene.document.options, "max_points": most}
    document = scene.document.model_copy(update={"options": options})
    storage = Storage(tmp_path)
    save(storage, replace(scene, document=document))
    files = Catalogue(storage).files(ID)
    header = files.file(BY_NAME["view.bin"]).path.read_bytes()
    length = int.from_bytes(header[:4], "little")
    assert json.loads(header[4 : 4 + length])["points"] == int(scene.mask.sum())
    storage.close()


def test_the_archive_follows_the_choice_of_points_and_the_unit(files: Files) -> None:
    options = PointFileOptions(metres_per_unit=2.0, max_points=10)
    with zipfile.ZipFile(files.file(BY_NAME["everything.zip"], options).path) as archive:
        assert b"element vertex 10\n" in archive.read("points.ply")
        result = json.loads(archive.read("result.json"))
        manifest = json.loads(archive.read("manifest.json"))
        depth = np.load(io.BytesIO(archive.read("depth/0.npy")))
    assert result["scale"]["unit"] == manifest["scale"]["unit"] == "metre"
    before = files.document.pictures[0].depth
    assert result["pictures"][0]["depth"]["max"] == pytest.approx(2 * before.max)
    assert np.nanmax(depth) == pytest.approx(2 * before.max, rel=0.01)


def test_the_same_options_give_the_same_file_and_others_another(files: Files) -> None:
    points = BY_NAME["points.ply"]
    first, again = (files.file(points, PointOptions(max_points=10)) for _ in range(2))
    assert first.path == again.path
    assert files.file(points, PointOptions(max_points=11)).sha256 != first.sha256
    assert files.file(points).sha256 == files.file(points, PointOptions(confidence=25)).sha256


def test_given_options_stand_over_those_of_the_reconstruction_and_leave_the_rest(
    scene: Scene, tmp_path: Path
) -> None:
    sent = {**scene.document.options, "confidence": 40, "max_points": 100}
    storage = Storage(tmp_path)
    save(storage, replace(scene, document=scene.document.model_copy(update={"options": sent})))
    files, points = Catalogue(storage).files(ID), BY_NAME["points.ply"]
    complete = PointOptions(confidence=40, max_points=5)
    assert files.file(points, PointOptions(max_points=5)).path == files.file(points, complete).path
    assert files.file(points, PointOptions(max_points=None)).bytes > files.file(points).bytes
    storage.close()


def test_files_are_the_same_bytes_whenever_they_are_made(
    files: Files, scene: Scene, tmp_path: Path
) -> None:
    again = Storage(tmp_path / "again")
    save(again, scene)
    mine, other = files.makers(), Catalogue(again).files(ID).makers()
    assert mine.keys() == other.keys()
    assert [name for name in mine if mine[name]().sha256 != other[name]().sha256] == []
    again.close()


def test_npz_holds_everything_on_both_grids(files: Files, scene: Scene) -> None:
    with np.load(files.file(BY_NAME["scene.npz"]).path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["extrinsics"], scene.extrinsics())
        np.testing.assert_array_equal(arrays["depth_1"], scene.depth_map(1, "original"))
        assert arrays["confidence_0"].shape == (90, 120)
        assert arrays["world_points_network"].shape == (2, 96, 96, 3)
        assert arrays["filenames"].tolist() == ["a_b.png", "b.png"]


def test_a_map_is_given_on_either_grid(files: Files) -> None:
    depth = BY_NAME["depth/{index}.npy"]
    shapes = [
        np.load(files.file(depth, MapOptions(grid=grid), 1).path).shape
        for grid in ("original", "network")
    ]
    assert shapes == [(120, 90), (96, 96)]


def test_a_picture_is_shown_without_its_padding(files: Files) -> None:
    with Image.open(files.file(BY_NAME["pictures/{index}.png"], index=1).path) as picture:
        assert picture.size == (72, 96)


@pytest.mark.parametrize("index", [-1, 2])
@pytest.mark.parametrize("name", [export.name for export in EXPORTS if export.per_picture])
def test_a_picture_that_is_not_there_is_not_found(files: Files, name: str, index: int) -> None:
    with pytest.raises(NotFound, match="0 to 1"):
        files.file(BY_NAME[name], index=index)


def test_a_result_without_tracks_has_all_files_but_those(scene: Scene, tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    save(
        storage,
        replace(scene, document=scene.document.model_copy(update={"options": {}}), tracks={}),
    )
    files = Catalogue(storage).files(ID)
    with pytest.raises(NoTracks, match="query_points"):
        files.file(BY_NAME["tracks.json"])
    with zipfile.ZipFile(files.file(BY_NAME["everything.zip"]).path) as archive:
        assert "tracks.json" not in archive.namelist()
        assert json.loads(archive.read("result.json"))["links"]["tracks"] is None
    storage.close()


def test_a_scene_in_memory_is_written_as_the_archive_would_be(
    files: Files, scene: Scene, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    document = write_files(scene, out)
    assert (
        ReconstructionDocument.model_validate_json((out / "result.json").read_bytes()) == document
    )
    with zipfile.ZipFile(files.file(BY_NAME["everything.zip"]).path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == set(
        contents
    )
    assert [
        name for name, content in contents.items() if (out / name).read_bytes() != content
    ] == []


def test_chosen_files_of_a_scene_in_memory_are_all_that_is_written(
    scene: Scene, tmp_path: Path
) -> None:
    shares: list[float] = []
    write_files(scene, tmp_path, ["everything.zip", "depth/1.exr"], shares.append)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"result.json", "everything.zip", "depth/1.exr"}
    assert shares == [0.5, 1]


def test_a_file_that_a_scene_does_not_have_leaves_nothing_behind(
    scene: Scene, tmp_path: Path
) -> None:
    with pytest.raises(KeyError):
        write_files(scene, tmp_path, ["points.ply", "depth/2.exr"])
    assert list(tmp_path.iterdir()) == []
