"""Files of a refined scene, opened by programs that are not ours."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
import trimesh
from numpy.typing import NDArray
from PIL import Image

from model.scene.distortion import distort, undistort
from refinement.result import NETWORK, NO_DATA, VERIFIED
from service.errors import NotInResult
from service.exports.catalogue import Files, write_files
from service.exports.names import exported_names
from service.exports.options import PointOptions
from service.exports.points import select_points
from service.exports.records import BY_NAME
from service.exports.splats import _FIELDS, seeds
from service.exports.tsdf import fuse
from service.exports.undistort import resampled, undistorted_intrinsic
from service.result.document import PictureDocument
from service.result.file import MadeFile
from service.result.scene import Scene


@pytest.fixture(scope="module")
def made(refined_scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes a file of the refined scene once and gives its path."""
    folder = tmp_path_factory.mktemp("files")

    def keep(name: str, make: Any, bytes: int) -> MadeFile:
        path = folder / name
        if not path.exists():
            make(path)
        return MadeFile(path, path.stat().st_size, "")

    files = Files(refined_scene.document, lambda: refined_scene, keep)

    def file(name: str, options: PointOptions | None = None, index: int = 0) -> Path:
        return files.file(BY_NAME[name], options, index).path

    return file


def unpacked(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder


def residuals(model: pycolmap.Reconstruction) -> NDArray[np.float64]:
    """Pixels between each observation and its point's projection."""
    found = []
    for point in model.points3D.values():
        for element in point.track.elements:
            image = model.images[element.image_id]
            camera = model.cameras[image.camera_id]
            projected = camera.img_from_cam(image.cam_from_world() * point.xyz)
            found.append(np.linalg.norm(projected - image.points2D[element.point2D_idx].xy))
    return np.array(found)


@pytest.mark.parametrize("name", ["colmap.zip", "colmap-text.zip"])
def test_colmap_has_the_tracks_errors_and_colours_of_refined_pictures(
    made: Any, refined_scene: Scene, tmp_path: Path, name: str
) -> None:
    model = pycolmap.Reconstruction(unpacked(made(name), tmp_path) / "sparse" / "0")
    sparse = refined_scene.sparse
    assert sparse is not None
    assert [model.images[i].name for i in (1, 2, 3)] == ["one.jpg", "two.jpg", "three.jpg"]
    assert model.num_images() == 3  # the fourth was not refined
    models = [model.cameras[i].model.name for i in (1, 2, 3)]
    assert models == ["PINHOLE", "SIMPLE_RADIAL", "PINHOLE"]
    assert model.num_points3D() == len(sparse.xyz)
    point = model.points3D[7]
    np.testing.assert_allclose(point.xyz, sparse.xyz[6], rtol=1e-7)
    np.testing.assert_array_equal(point.color, sparse.rgb[6])
    assert point.error == 0.25
    assert point.track.length() == sparse.start[7] - sparse.start[6]
    assert residuals(model).max() < 0.01
    model.update_point_3d_errors()
    assert model.compute_mean_reprojection_error() < 0.01


def test_colmap_has_dense_pixels_too_if_they_are_asked_for(
    made: Any, refined_scene: Scene, tmp_path: Path
) -> None:
    options = PointOptions(points="verified", max_points=500)
    model = pycolmap.Reconstruction(
        unpacked(made("colmap.zip", options), tmp_path) / "sparse" / "0"
    )
    assert refined_scene.sparse is not None
    triangulated = len(refined_scene.sparse.xyz)
    pixels = sum(select_points(refined_scene, options).counts[:3])
    assert model.num_points3D() == triangulated + pixels
    assert model.points3D[triangulated + 1].track.length() == 1
    assert residuals(model).max() < 0.01


def test_splats_hold_undistorted_pictures_that_their_model_fits(
    made: Any, refined_scene: Scene, tmp_path: Path
) -> None:
    folder = unpacked(made("splats.zip"), tmp_path)
    model = pycolmap.Reconstruction(folder / "sparse" / "0")
    names = {image.name for image in model.images.values()}
    assert names == {path.name for path in (folder / "images").iterdir()}
    assert names == {"one.jpg", "two.jpg", "three.jpg"}
    for image in model.images.values():
        camera = model.cameras[image.camera_id]
        assert camera.model.name == "PINHOLE"
        with Image.open(folder / "images" / image.name) as picture:
            assert picture.size == (camera.width, camera.height)
    assert residuals(model).max() < 0.01
    lengths = [point.track.length() for point in model.points3D.values()]
    assert min(lengths) == 2
    assert max(lengths) == 3
    assert np.isfinite([point.error for point in model.points3D.values()]).all()
    kept = (folder / "images" / "one.jpg").read_bytes()
    assert kept == refined_scene.originals[0].tobytes()  # no distortion: the very file


@pytest.mark.parametrize("k", [-0.25, -0.02, 0.03, 0.2])
def test_an_undistorted_picture_is_what_a_pinhole_camera_sees(
    refined_scene: Scene, k: float
) -> None:
    """Of a pattern that is a smooth function of the ray, seen through either lens."""
    document = refined_scene.document.pictures[1]
    picture = document.model_copy(
        update={
            "distortion": k,
            "intrinsic": [[130.0, 0, 75], [0, 130, 66], [0, 0, 1]],
        }
    )
    distorted = _pattern(picture, np.array(picture.intrinsic), k)
    matrix = undistorted_intrinsic(picture)
    result = resampled(picture, distorted.round().astype(np.uint8)).astype(float)
    wanted = _pattern(picture, matrix, 0.0)
    assert np.abs(result - wanted)[2:-2, 2:-2].max() < 2  # rounding, and cubic interpolation
    corners = np.array(
        [[0, 0], [0, 120], [160, 0], [160, 120], [0, 66], [160, 66], [75, 0], [75, 120]]
    )
    places = (corners - matrix[:2, 2]) / np.diag(matrix)[:2]
    seen = distort(places, k) * 130 + [75, 66]
    assert (seen >= -1e-6).all()
    assert (seen <= [160 + 1e-6, 120 + 1e-6]).all()  # every pixel has a value
    # and the picture is no smaller than that asks
    assert np.isclose(seen, [0, 0]).any() or np.isclose(seen, [160, 120]).any()


def _pattern(picture: PictureDocument, matrix: NDArray, k: float) -> NDArray[np.float64]:
    height, width = picture.original_size.height, picture.original_size.width
    row, column = np.mgrid[:height, :width] + 0.5
    places = (np.stack([column, row], -1) - matrix[:2, 2]) / np.diag(matrix)[:2]
    x, y = undistort(places, k).transpose(2, 0, 1)
    return 127 + 100 * np.stack([np.sin(4 * x), np.cos(5 * y), np.sin(3 * x + 2 * y)], -1)


def test_gaussians_have_the_layout_of_the_authors_of_splatting(
    made: Any, refined_scene: Scene
) -> None:
    content = made("gaussians.ply").read_bytes()
    header, body = content.split(b"end_header\n", 1)
    start = seeds(refined_scene)
    count = len(start.points)
    properties = (
        ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
        + [f"f_rest_{i}" for i in range(45)]
        + ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    )
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    lines += [f"property float {name}" for name in properties]
    assert header.decode() == "\n".join(lines) + "\n"
    assert list(_FIELDS) == properties
    rows = np.frombuffer(body, "<f4").reshape(count, 62)
    assert count > 5000
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(rows[:, :3], start.points)
    colors = rows[:, 6:9] * 0.28209479 + 0.5
    np.testing.assert_allclose(colors * 255, start.colors, atol=1e-3)
    assert (rows[:, 9:54] == 0).all()
    np.testing.assert_allclose(1 / (1 + np.exp(-rows[:, 54])), 0.1, atol=1e-6)
    np.testing.assert_allclose(np.exp(rows[:, 55]), start.widths, rtol=1e-5)
    np.testing.assert_array_equal(rows[:, 58:], [[1, 0, 0, 0]] * count)


def test_seeds_lie_on_verified_depth_and_are_no_more_than_asked(refined_scene: Scene) -> None:
    all_of_them, few = seeds(refined_scene), seeds(refined_scene, 800)
    assert 800 / 1.5 < len(few.points) <= 800
    assert few.widths.min() > all_of_them.widths.min()
    cloud = select_points(refined_scene, PointOptions(confidence=0))
    known = {tuple(point) for block in cloud.blocks() for point in block.points.tolist()}
    assert {tuple(point) for point in few.points.tolist()} <= known


def test_without_dense_depth_gaussians_come_from_the_fitted_network(
    refined_scene: Scene, tmp_path: Path
) -> None:
    found = seeds(replace(refined_scene, dense=None))
    points = np.concatenate([refined_scene.world_points(i).reshape(-1, 3) for i in range(3)])
    assert len(found.points) > 500
    distances = np.linalg.norm(found.points[::50, None] - points[None], axis=-1).min(1)
    assert distances.max() < 1e-4


def test_points_are_dense_pixels_verified_ones_or_all(made: Any, refined_scene: Scene) -> None:
    sources = [refined_scene.source_map(index) for index in range(4)]
    verified = sum(int((source == VERIFIED).sum()) for source in sources)
    filled = sum(int((source == NETWORK).sum()) for source in sources)
    ply = trimesh.load(made("points.ply"))
    assert len(ply.vertices) == verified
    everything = PointOptions(points="all", confidence=0)
    assert len(select_points(refined_scene, everything)) == verified + filled
    some = select_points(refined_scene, PointOptions(points="all", confidence=50))
    assert verified + 0.3 * filled < len(some) < verified + 0.7 * filled
    first = refined_scene.dense_points(0)[sources[0] == VERIFIED]
    np.testing.assert_allclose(ply.vertices[: len(first)], first, atol=1e-5)
    colors = refined_scene.original(0)[sources[0] == VERIFIED]
    np.testing.assert_array_equal(ply.visual.vertex_colors[: len(first), :3], colors)
    glb = trimesh.load(made("scene.glb"))
    assert len(glb.geometry["points"].vertices) == verified


def test_a_users_mask_hides_dense_pixels(refined_scene: Scene) -> None:
    keep = np.ones_like(refined_scene.keep)
    keep[:, :, :32] = False  # the left half of a grid 64 wide
    hidden = replace(refined_scene, keep=keep)
    for block in select_points(hidden, PointOptions()).blocks():
        assert block.pixels[:, 0].min() > 79


def test_a_map_of_a_dense_scene_says_where_each_depth_comes_from(
    made: Any, refined_scene: Scene
) -> None:
    with Image.open(made("depth/{index}.source.png", index=1)) as picture:
        grey = np.asarray(picture)
    source = refined_scene.source_map(1)
    assert set(np.unique(grey[source == NO_DATA])) == {0}
    assert set(np.unique(grey[source == NETWORK])) == {127}
    assert set(np.unique(grey[source == VERIFIED])) == {255}
    depth = np.load(made("depth/{index}.npy", index=1))
    np.testing.assert_array_equal(np.isnan(depth), source == NO_DATA)
    picture_document = refined_scene.document.pictures[1]
    with Image.open(made("depth/{index}.png", index=1)) as picture:
        levels = np.asarray(picture).astype(float)
    scale = picture_document.depth.png_scale
    np.testing.assert_allclose(
        levels[~np.isnan(depth)] * scale, depth[~np.isnan(depth)], atol=scale
    )
    with np.load(made("scene.npz")) as arrays:
        np.testing.assert_array_equal(arrays["source_1"], source)
        np.testing.assert_array_equal(arrays["depth_1"], depth)
        assert arrays["distortions"].tolist() == [0, 0.1, 0, 0]
        assert len(arrays["sparse_xyz"]) == refined_scene.document.refinement.points


def test_a_smaller_dense_map_is_enlarged_without_mixing_depths(refined_scene: Scene) -> None:
    assert refined_scene.dense is not None
    small = replace(
        refined_scene.dense[0],
        depth=refined_scene.dense[0].depth[::2, ::2],
        source=refined_scene.dense[0].source[::2, ::2],
    )
    scene = replace(refined_scene, dense=(small, *refined_scene.dense[1:]))
    depth = scene.depth_map(0, "original")
    assert depth.shape == (120, 160)
    assert set(np.unique(depth[20:])) == set(np.unique(small.depth[10:]))
    np.testing.assert_array_equal(depth[20:22, 10:12], small.depth[10, 5])


def test_the_mesh_lies_on_the_true_surface_and_faces_the_cameras(
    made: Any, refined_scene: Scene
) -> None:
    ply, glb = trimesh.load(made("mesh.ply")), trimesh.load(made("mesh.glb"))
    assert len(ply.faces) > 2000
    mesh = glb.geometry["surface"]
    assert mesh.faces.shape == ply.faces.shape
    transform, _ = glb.graph["surface"]
    turned = mesh.vertices @ transform[:3, :3].T
    np.testing.assert_allclose(turned * [1, -1, -1], ply.vertices, atol=1e-4)
    document = refined_scene.document.pictures[0]
    truth = refined_scene.depth_map(0, "original")
    matrix = np.array(document.intrinsic)
    vertices = ply.vertices @ np.array(document.extrinsic)[:, :3].T
    vertices = vertices + np.array(document.extrinsic)[:, 3]
    pixels = vertices[:, :2] / vertices[:, 2:] * np.diag(matrix)[:2] + matrix[:2, 2]
    inside = (vertices[:, 2] > 0) & (pixels > 0).all(1) & (pixels < [160, 120]).all(1)
    column, row = pixels[inside].astype(int).T
    ratio = vertices[inside, 2] / truth[row, column]
    near = np.abs(np.log(ratio)) < 0.1
    assert near.mean() > 0.5  # the rest is hidden from this picture
    assert np.median(np.abs(ratio[near] - 1)) < 0.01
    # normals of what the first picture sees point to it
    faces = ply.faces[np.isin(ply.faces, np.flatnonzero(inside)[near]).all(1)]
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = (normals * corners.mean(1)).sum(1) < 0
    assert facing.mean() > 0.95
    assert np.abs(ply.visual.vertex_colors[:, :3].astype(int)).std() > 10


def test_a_scene_without_verified_pixels_gives_an_empty_mesh(
    refined_scene: Scene, tmp_path: Path
) -> None:
    assert refined_scene.dense is not None
    nothing = tuple(
        replace(dense, source=np.minimum(dense.source, NETWORK)) for dense in refined_scene.dense
    )
    scene = replace(refined_scene, dense=nothing)
    assert len(fuse(scene).faces) == 0
    write_files(scene, tmp_path, ["mesh.ply", "mesh.glb", "points.ply", "gaussians.ply"])
    assert b"element face 0\n" in (tmp_path / "mesh.ply").read_bytes()
    assert trimesh.load(tmp_path / "mesh.glb").geometry == {}


def test_nerfstudio_is_given_upright_originals_with_their_distortion(
    made: Any, refined_scene: Scene, tmp_path: Path
) -> None:
    for archive, undistorted in (("nerfstudio.zip", False), ("splats.zip", True)):
        folder = unpacked(made(archive), tmp_path / archive)
        transforms = json.loads((folder / "transforms.json").read_text())
        assert (folder / transforms["ply_file_path"]).is_file()
        assert len(transforms["frames"]) == 3
        for frame, picture in zip(
            transforms["frames"], refined_scene.document.pictures, strict=False
        ):
            with Image.open(folder / frame["file_path"]) as opened:
                assert opened.size == (frame["w"], frame["h"])
            assert frame["k1"] == (0 if undistorted else picture.distortion)
            matrix = undistorted_intrinsic(picture) if undistorted else np.array(picture.intrinsic)
            assert (frame["fl_x"], frame["cy"]) == (matrix[0, 0], matrix[1, 2])
        points = trimesh.load(folder / transforms["ply_file_path"])
        np.testing.assert_array_equal(points.vertices, seeds(refined_scene).points)


def test_exported_names_are_distinct_plain_and_end_as_their_format_asks(
    refined_scene: Scene,
) -> None:
    def named(*names: str) -> list[str]:
        pictures = [
            picture.model_copy(update={"filename": name})
            for picture, name in zip(refined_scene.document.pictures, names, strict=True)
        ]
        document = refined_scene.document.model_copy(update={"pictures": pictures})
        png = io.BytesIO()
        Image.new("RGB", (1, 1)).save(png, "PNG")
        originals = (*refined_scene.originals[:3], np.frombuffer(png.getvalue(), np.uint8))
        return exported_names(replace(refined_scene, document=document, originals=originals))

    assert named("left/1.JPG", "right/1.jpeg", "c.heic", "d.png") == [
        "left/1.JPG", "right/1.jpeg", "c.heic.jpg", "d.png",
    ]  # fmt: skip
    assert named("a b.jpg", "A_b.jpg", "../x.jpg", "d.webp") == [
        "a_b.jpg", "A_b-2.jpg", "x.jpg", "d.webp.png",
    ]  # fmt: skip


def test_a_result_that_was_not_refined_has_none_of_these_files(
    scene: Scene, tmp_path: Path
) -> None:
    files = Files(scene.document, lambda: scene, lambda name, make, bytes: pytest.fail(name))
    for name, lacks in (
        ("mesh.glb", "dense depth"),
        ("splats.zip", "refined cameras"),
        ("depth/{index}.source.png", "dense depth"),
    ):
        with pytest.raises(NotInResult, match=lacks):
            files.file(BY_NAME[name])


def test_a_service_without_the_package_says_so(
    refined_scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.exports.export.find_spec", lambda name: None)
    files = Files(refined_scene.document, lambda: refined_scene, lambda name, make, bytes: None)
    with pytest.raises(NotInResult, match="lacks the Python package skimage"):
        files.file(BY_NAME["mesh.ply"])
    assert "mesh.ply" not in files.makers()
    assert "splats.zip" in files.makers()
