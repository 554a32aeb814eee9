from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from service.result.scene import Scene


def test_what_lies_in_the_padding_does_not_reach_the_original_grid(scene: Scene) -> None:
    spoilt = dataclasses.replace(scene, depth=np.where(scene.mask, scene.depth, np.float32(100)))
    for index, shape in enumerate([(90, 120), (120, 90)]):
        depth = spoilt.depth_map(index, "original")
        assert depth.shape == shape
        np.testing.assert_allclose(depth, scene.depth_map(index, "original"), rtol=1e-6)
        assert depth.max() <= scene.document.pictures[index].depth.max * (1 + 1e-6)


def test_the_network_grid_has_no_data_on_padding(scene: Scene) -> None:
    np.testing.assert_array_equal(np.isnan(scene.depth_map(0, "network")), ~scene.mask[0])
    np.testing.assert_array_equal(np.isnan(scene.confidence_map(1, "network")), ~scene.mask[1])


def test_points_are_the_centres_of_their_pixels(scene: Scene) -> None:
    """Projected with the documented intrinsics, network pixel (u, v) lands at (u + 0.5, v +
    0.5)."""
    for picture in scene.document.pictures:
        extrinsic, intrinsic = np.array(picture.extrinsic), np.array(picture.intrinsic_network)
        seen = scene.world_points(picture.index) @ extrinsic[:, :3].T + extrinsic[:, 3]
        pixels = seen @ intrinsic.T
        pixels = pixels[..., :2] / pixels[..., 2:]
        v, u = np.mgrid[:96, :96] + 0.5
        np.testing.assert_allclose(pixels, np.stack([u, v], -1), atol=1e-3)
        np.testing.assert_allclose(seen[..., 2], scene.depth[picture.index], rtol=1e-5)


def test_a_map_at_a_smaller_size_has_the_pictures_shape_and_the_same_values(scene: Scene) -> None:
    for index, size in ((0, (45, 60)), (1, (60, 45))):
        small = scene.depth_map(index, "original", max_side=60)
        assert small.shape == size
        whole = scene.depth_map(index, "original")
        assert np.nanmean(small) == pytest.approx(np.nanmean(whole), rel=0.01)
    assert scene.confidence_map(0, "network", max_side=48).shape == (48, 48)
    assert scene.depth_map(0, "original", max_side=8192).shape == (90, 120)
