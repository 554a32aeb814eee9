"""Every format is opened by a program that is not ours, and all of them tell of the same cameras
and points."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import OpenEXR
import pycolmap
import pytest
import torch
import trimesh
from numpy.typing import NDArray

from model.rotations import quaternion_to_matrix
from service.exports.cameras import cameras_json, tracks_json, trajectory_tum, transforms_json
from service.exports.colmap import write_colmap
from service.exports.depth import depth_levels, write_depth_exr
from service.exports.gltf import linear_colors, write_glb
from service.exports.options import PointOptions
from service.exports.ply import write_ply
from service.exports.points import Block, Cloud, select_points
from service.result.scene import Scene


@pytest.fixture(scope="module")
def cloud(scene: Scene) -> Cloud:
    return select_points(scene, PointOptions(confidence=20, max_points=3000))


@pytest.fixture(scope="module", params=[False, True], ids=["binary", "text"])
def model(
    request: pytest.FixtureRequest,
    scene: Scene,
    cloud: Cloud,
    tmp_path_factory: pytest.TempPathFactory,
) -> pycolmap.Reconstruction:
    folder = tmp_path_factory.mktemp("colmap")
    write_colmap(scene, cloud, folder / "colmap.zip", text=request.param)
    with zipfile.ZipFile(folder / "colmap.zip") as archive:
        archive.extractall(folder)
    return pycolmap.Reconstruction(folder / "sparse" / "0")


def whole(cloud: Cloud) -> Block:
    """All of a cloud's points together."""
    blocks = list(cloud.blocks())
    fields = ("points", "colors", "confidence", "pixels")
    return Block(-1, *(np.concatenate([getattr(b, name) for b in blocks]) for name in fields))


def sorted_rows(points: NDArray) -> NDArray:
    rounded = np.round(np.asarray(points, np.float64), 4)
    return rounded[np.lexsort(rounded.T)]


def test_colmap_has_the_cameras_of_the_original_pictures(
    scene: Scene, model: pycolmap.Reconstruction
) -> None:
    assert (model.num_images(), model.num_cameras()) == (2, 2)
    for picture in scene.document.pictures:
        image = model.images[picture.index + 1]
        assert image.name == picture.filename.replace(" ", "_")
        camera = model.cameras[image.camera_id]
        assert (camera.width, camera.height) == (
            picture.original_size.width,
            picture.original_size.height,
        )
        np.testing.assert_allclose(camera.calibration_matrix(), picture.intrinsic, rtol=1e-6)
        np.testing.assert_allclose(image.cam_from_world().matrix(), picture.extrinsic, atol=1e-6)


def test_every_colmap_point_projects_onto_its_observation(
    cloud: Cloud, model: pycolmap.Reconstruction
) -> None:
    assert model.num_points3D() == len(cloud)
    errors = []
    for point in model.points3D.values():
        (element,) = point.track.elements
        image = model.images[element.image_id]
        seen = image.points2D[element.point2D_idx]
        projected = model.cameras[image.camera_id].img_from_cam(image.cam_from_world() * point.xyz)
        errors.append(np.linalg.norm(projected - seen.xy))
    assert max(errors) < 0.01


def test_the_depth_file_unprojected_with_the_colmap_camera_lies_on_the_ply(
    scene: Scene, cloud: Cloud, model: pycolmap.Reconstruction, tmp_path: Path
) -> None:
    write_ply(cloud, tmp_path / "points.ply")
    points = np.asarray(trimesh.load(tmp_path / "points.ply").vertices)
    for picture in scene.document.pictures:
        image = model.images[picture.index + 1]
        camera = model.cameras[image.camera_id]
        png = depth_levels(scene.depth_map(picture.index, "original"), picture.depth.png_scale)
        depth = np.asarray(png) * picture.depth.png_scale
        mine = points[np.repeat([0, 1], cloud.counts) == picture.index]
        seen = np.array([image.cam_from_world() * point for point in mine])
        pixel = np.array([camera.img_from_cam(point) for point in seen])
        focal, principal = (
            np.diag(camera.calibration_matrix())[:2],
            camera.calibration_matrix()[:2, 2],
        )
        column, row = np.floor(pixel).astype(int).T
        z = depth[row, column]
        rays = np.c_[(np.c_[column + 0.5, row + 0.5] - principal) / focal[0], np.ones(len(z))]
        rays[:, 1] *= focal[0] / focal[1]
        cam_to_world = image.cam_from_world().inverse()
        unprojected = np.array([cam_to_world * ray for ray in rays * z[:, None]])
        pixel_size = z / focal[0]
        distance = np.linalg.norm(unprojected - mine, axis=1)
        assert (distance < 1.0 * pixel_size).all()  # within the pixel that holds it


def test_ply_as_text_says_what_the_binary_says(cloud: Cloud, tmp_path: Path) -> None:
    write_ply(cloud, tmp_path / "b.ply")
    write_ply(cloud, tmp_path / "a.ply", ascii=True)
    binary, text = (trimesh.load(tmp_path / name) for name in ("b.ply", "a.ply"))
    assert (tmp_path / "a.ply").read_bytes().startswith(b"ply\nformat ascii")
    np.testing.assert_array_equal(binary.vertices, whole(cloud).points)
    np.testing.assert_allclose(text.vertices, whole(cloud).points, atol=1e-5)
    np.testing.assert_array_equal(binary.visual.vertex_colors[:, :3], whole(cloud).colors)
    np.testing.assert_array_equal(text.visual.vertex_colors, binary.visual.vertex_colors)


def test_an_empty_cloud_is_a_valid_file_in_every_format(scene: Scene, tmp_path: Path) -> None:
    empty = Cloud.empty(scene)
    write_ply(empty, tmp_path / "e.ply")
    write_glb(scene, empty, tmp_path / "e.glb")
    write_colmap(scene, empty, tmp_path / "e.zip")
    assert b"element vertex 0\n" in (tmp_path / "e.ply").read_bytes()
    assert set(trimesh.load(tmp_path / "e.glb").geometry) == {"cameras"}
    with zipfile.ZipFile(tmp_path / "e.zip") as archive:
        archive.extractall(tmp_path)
    assert pycolmap.Reconstruction(tmp_path / "sparse" / "0").num_points3D() == 0


def test_glb_holds_the_points_with_y_up_and_a_frustum_for_every_camera(
    scene: Scene, cloud: Cloud, tmp_path: Path
) -> None:
    write_glb(scene, cloud, tmp_path / "scene.glb")
    loaded = trimesh.load(tmp_path / "scene.glb")
    shown = loaded.geometry["points"].vertices
    transform, _ = loaded.graph["points"]
    turned = shown @ transform[:3, :3].T + transform[:3, 3]
    np.testing.assert_allclose(
        sorted_rows(turned * [1, -1, -1]), sorted_rows(whole(cloud).points), atol=2e-4
    )
    lines = loaded.geometry["cameras"]
    centres = -np.einsum("sji,sj->si", scene.extrinsics()[:, :, :3], scene.extrinsics()[:, :, 3])
    for centre in centres:
        assert np.linalg.norm(lines.vertices - centre, axis=1).min() < 1e-5


def test_glb_colours_are_linear_and_its_materials_unlit(
    scene: Scene, cloud: Cloud, tmp_path: Path
) -> None:
    np.testing.assert_array_equal(
        linear_colors(np.array([[0, 128, 255]], np.uint8)), [[0, 14146, 65535, 65535]]
    )
    write_glb(scene, cloud, tmp_path / "scene.glb")
    content = (tmp_path / "scene.glb").read_bytes()
    size = int.from_bytes(content[12:16], "little")
    document = json.loads(content[20 : 20 + size])
    assert all(
        "KHR_materials_unlit" in material["extensions"] for material in document["materials"]
    )
    colors = document["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]
    assert document["accessors"][colors]["componentType"] == 5123
    assert len(content) == int.from_bytes(content[8:12], "little")


def test_exr_is_the_depth_bit_for_bit(scene: Scene, tmp_path: Path) -> None:
    depth = scene.depth_map(0, "original")
    depth[0, 0] = np.nan
    write_depth_exr(depth, tmp_path / "d.exr")
    with OpenEXR.File(str(tmp_path / "d.exr")) as file:
        np.testing.assert_array_equal(file.channels()["Z"].pixels, depth)


def test_transforms_json_is_the_same_cameras_with_opengl_axes(scene: Scene) -> None:
    for frame, picture in zip(
        transforms_json(scene)["frames"], scene.document.pictures, strict=True
    ):
        matrix = np.array(frame["transform_matrix"]) @ np.diag([1, -1, -1, 1])
        np.testing.assert_allclose(np.linalg.inv(matrix)[:3], picture.extrinsic, atol=1e-6)
        assert (frame["w"], frame["h"]) == (
            picture.original_size.width,
            picture.original_size.height,
        )
        np.testing.assert_allclose(
            [frame["fl_x"], frame["cx"]], np.array(picture.intrinsic)[0, [0, 2]]
        )


def test_the_tum_trajectory_is_where_the_cameras_are(scene: Scene) -> None:
    rows = np.loadtxt(io.StringIO(trajectory_tum(scene)))
    for row, picture in zip(rows, scene.document.pictures, strict=True):
        extrinsic = np.array(picture.extrinsic)
        np.testing.assert_allclose(row[1:4], -extrinsic[:, :3].T @ extrinsic[:, 3], atol=1e-6)
        rotation = quaternion_to_matrix(torch.tensor(row[4:])).numpy()
        np.testing.assert_allclose(rotation, extrinsic[:, :3].T, atol=1e-6)


def test_cameras_json_repeats_the_documents_cameras(scene: Scene) -> None:
    cameras = cameras_json(scene)["cameras"]
    assert [camera["file"] for camera in cameras] == ["a_b.png", "b.png"]
    np.testing.assert_array_equal(cameras[1]["extrinsic"], scene.document.pictures[1].extrinsic)


def test_tracks_are_pixels_of_the_original_pictures(scene: Scene) -> None:
    frames = tracks_json(scene)["frames"]
    # the centre of either grid
    np.testing.assert_allclose(frames[0]["points"], [[60, 45]], atol=1e-4)
    assert frames[1]["confidence"] == [0.5]
