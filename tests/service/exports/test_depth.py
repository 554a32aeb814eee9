from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.exports.depth import (
    confidence_picture,
    depth_levels,
    depth_picture,
    write_npy,
    write_png,
)
from service.result.document import depth_scale


@pytest.fixture
def depth() -> np.ndarray:
    depth = np.random.default_rng(0).uniform(0.5, 20, (30, 40)).astype(np.float32)
    depth[0, :5] = np.nan
    depth[1, 0] = 0.0
    depth[1, 1] = 1e-6
    return depth


def test_depth_survives_the_16_bit_png_within_half_a_step(
    depth: np.ndarray, tmp_path: Path
) -> None:
    scale = depth_scale(float(np.nanmax(depth)))
    write_png(depth_levels(depth, scale), tmp_path / "depth")
    with Image.open(tmp_path / "depth") as picture:
        values = np.array(picture)
    assert values.dtype == np.uint16
    assert values.max() == 65535
    np.testing.assert_array_equal(values == 0, np.isnan(depth))
    error = np.abs(values * scale - depth)[2:]
    assert error.max() <= 0.501 * scale
    assert values[1, 0] == values[1, 1] == 1  # the least depth, for 0 is no data


def test_depth_survives_npy_exactly(depth: np.ndarray, tmp_path: Path) -> None:
    write_npy(depth, tmp_path / "depth")
    np.testing.assert_array_equal(np.load(tmp_path / "depth", allow_pickle=False), depth)


def test_near_is_brighter_than_far_and_no_data_is_black(depth: np.ndarray) -> None:
    grey = np.array(depth_picture(depth).convert("L")).astype(float)
    assert (grey[np.isnan(depth)] == 0).all()
    near, far = depth < 1, depth > 15
    assert grey[near].mean() > grey[far].mean() + 50


@pytest.mark.parametrize("value", [2.0, np.nan])
def test_a_flat_or_empty_depth_map_has_a_picture_too(value: float) -> None:
    assert depth_picture(np.full((4, 6), value, np.float32)).size == (6, 4)


def test_certain_is_brighter_than_doubtful_whatever_the_extremes() -> None:
    confidence = np.linspace(1, 2, 100, dtype=np.float32).reshape(10, 10)
    confidence[9, 9] = 1e6
    confidence[0, 0] = np.nan
    grey = np.array(confidence_picture(confidence).convert("L")).astype(float)
    assert grey[0, 0] == 0
    assert grey[9, 5] > grey[5, 5] + 30 > grey[1, 5] + 60
