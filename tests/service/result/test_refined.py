from __future__ import annotations

from typing import Any

import numpy as np
import torch

from model.scene.distortion import distort
from model.scene.reconstruction import Reconstruction
from model.scene.similarity import Similarity
from refinement.result import NETWORK, VERIFIED, Refinement
from service.result.refined import moved, refined
from service.result.scene import Scene
from service.storage.arrays import mapped, write


def test_the_networks_depth_is_fitted_and_its_cameras_replaced(
    network: Reconstruction, refinement: Refinement, refined_scene: Scene
) -> None:
    scene = refined(network, refinement)
    np.testing.assert_allclose(
        scene.depth[0], np.exp(0.2) * np.asarray(network.depth[0]) ** 1.1, rtol=1e-5
    )
    assert torch.equal(scene.depth[3], network.depth[3])
    for index, picture in enumerate(refinement.pictures):
        np.testing.assert_allclose(scene.extrinsics[index], picture.extrinsic, atol=1e-6)
        np.testing.assert_allclose(scene.original_intrinsics[index], picture.intrinsic(), rtol=1e-6)
    transform = scene.transforms[1]
    back = transform.intrinsics_to_original(scene.intrinsics[1])
    np.testing.assert_allclose(back, scene.original_intrinsics[1], rtol=1e-5)


def test_points_of_a_distorted_picture_fall_on_the_pixels_that_they_come_from(
    refined_scene: Scene,
) -> None:
    picture = refined_scene.document.pictures[1]
    assert picture.distortion == 0.1
    extrinsic = np.array(picture.extrinsic)
    for points, matrix in (
        (refined_scene.world_points(1), picture.intrinsic_network),
        (refined_scene.dense_points(1), picture.intrinsic),
    ):
        seen = points @ extrinsic[:, :3].T + extrinsic[:, 3]
        places = distort(seen[..., :2] / seen[..., 2:], picture.distortion)
        pixels = places @ np.array(matrix)[:2, :2].T + np.array(matrix)[:2, 2]
        row, column = np.mgrid[: points.shape[0], : points.shape[1]] + 0.5
        known = np.isfinite(pixels).all(-1)
        assert known.mean() > 0.9
        wanted = np.stack([column, row], -1)
        np.testing.assert_allclose(pixels[known], wanted[known], atol=2e-3)


def test_a_refined_scene_comes_back_from_its_arrays(room: dict[str, Any], tmp_path: Any) -> None:
    scene: Scene = room["scene"]
    write(tmp_path, room["arrays"])
    found = Scene.of(scene.document, mapped(tmp_path))
    assert found.sparse is not None
    assert found.dense is not None
    for name in ("xyz", "rgb", "error", "start", "picture", "pixel"):
        np.testing.assert_array_equal(
            getattr(found.sparse, name), getattr(room["refinement"].sparse, name)
        )
    for mine, other in zip(found.dense, room["refinement"].dense, strict=True):
        np.testing.assert_array_equal(mine.depth, other.depth)
        np.testing.assert_array_equal(mine.source, other.source)
    difference = found.original(2).astype(int) - room["images"][2]
    assert np.abs(difference).mean() < 6


def test_the_document_tells_how_each_picture_was_refined(refined_scene: Scene) -> None:
    document = refined_scene.document
    assert [picture.source for picture in document.pictures] == ["refined"] * 3 + ["network"]
    assert document.refinement is not None
    assert document.refinement.kept == 3
    assert document.refinement.reason is not None
    assert refined_scene.sparse is not None
    assert document.refinement.points == len(refined_scene.sparse.xyz) > 500
    for picture in document.pictures:
        source = refined_scene.source_map(picture.index)
        assert picture.dense is not None
        assert picture.dense.verified == (source == VERIFIED).sum()
        assert picture.dense.filled == (source == NETWORK).sum()
        depth = refined_scene.depth_map(picture.index, "original")
        assert picture.depth.min <= np.nanmin(depth)
        assert np.nanmax(depth) <= picture.depth.max


def test_a_moved_refinement_is_the_same_scene_in_another_world(refinement: Refinement) -> None:
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).double()
    similarity = Similarity(2.5, turn, torch.tensor([1.0, 2, 3]).double())
    other = moved(refinement, similarity)
    assert refinement.sparse is not None
    assert other.sparse is not None
    for before, after in zip(refinement.pictures, other.pictures, strict=True):
        seen = refinement.sparse.xyz @ before.extrinsic[:, :3].T + before.extrinsic[:, 3]
        again = other.sparse.xyz @ after.extrinsic[:, :3].T + after.extrinsic[:, 3]
        np.testing.assert_allclose(again, 2.5 * seen, atol=1e-9)
        a, b = before.depth_fit or (0.0, 1.0)
        assert after.depth_fit is not None
        np.testing.assert_allclose(after.depth_fit, (a + np.log(2.5), b))
    assert refinement.dense is not None
    assert other.dense is not None
    np.testing.assert_allclose(other.dense[0].depth, 2.5 * refinement.dense[0].depth)
