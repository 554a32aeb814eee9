from __future__ import annotations

import io

import numpy as np
import pytest
import trimesh
from PIL import Image

from service.exports import depth_npy, depth_picture, depth_png, depth_scale, points_ply


@pytest.fixture
def depth() -> np.ndarray:
    depth = np.random.default_rng(0).uniform(0.5, 20, (30, 40)).astype(np.float32)
    depth[0, :5] = np.nan
    depth[1, 0] = 0.0
    depth[1, 1] = 1e-6
    return depth


def test_depth_survives_the_16_bit_png_within_half_a_step(depth: np.ndarray) -> None:
    scale = depth_scale(float(np.nanmax(depth)))
    values = np.array(Image.open(io.BytesIO(depth_png(depth, scale))))
    assert values.dtype == np.uint16
    assert values.max() == 65535
    np.testing.assert_array_equal(values == 0, np.isnan(depth))
    error = np.abs(values * scale - depth)[2:]
    assert error.max() <= 0.501 * scale
    assert values[1, 0] == values[1, 1] == 1  # the least depth, for 0 is no data


def test_depth_survives_npy_exactly(depth: np.ndarray) -> None:
    np.testing.assert_array_equal(np.load(io.BytesIO(depth_npy(depth)), allow_pickle=False), depth)


def test_near_is_brighter_than_far_and_no_data_is_black(depth: np.ndarray) -> None:
    grey = np.array(depth_picture(depth).convert("L")).astype(float)
    assert (grey[np.isnan(depth)] == 0).all()
    near, far = depth < 1, depth > 15
    assert grey[near].mean() > grey[far].mean() + 50


@pytest.mark.parametrize("value", [2.0, np.nan])
def test_a_flat_or_empty_depth_map_has_a_picture_too(value: float) -> None:
    assert depth_picture(np.full((4, 6), value, np.float32)).size == (6, 4)


def test_the_cloud_keeps_places_colours_and_the_confident_points() -> None:
    random = np.random.default_rng(0)
    points = random.normal(size=(1000, 3)).astype(np.float32)
    colors = random.integers(0, 256, (1000, 3), np.uint8)
    confidence = np.arange(1000, dtype=np.float32)
    cloud = trimesh.load(io.BytesIO(points_ply(points, colors, confidence, percentile=75)), file_type="ply")
    np.testing.assert_array_equal(cloud.vertices, points[750:])
    np.testing.assert_array_equal(cloud.visual.vertex_colors[:, :3], colors[750:])
    assert (cloud.visual.vertex_colors[:, 3] == 255).all()


def test_a_sample_of_the_cloud_is_the_same_every_time() -> None:
    points, colors = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32), np.zeros((500, 3), np.uint8)
    options = {"percentile": 0, "max_points": 50}
    first, second = (points_ply(points, colors, np.ones(500, np.float32), **options) for _ in range(2))
    assert first == second
    assert len(trimesh.load(io.BytesIO(first), file_type="ply").vertices) == 50


def test_equal_confidences_keep_every_point() -> None:
    ply = points_ply(np.zeros((9, 3), np.float32), np.zeros((9, 3), np.uint8), np.ones(9, np.float32), percentile=90)
    assert b"element vertex 9\n" in ply
