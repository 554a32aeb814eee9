from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluation.refined.picture_sets import PictureSet
from evaluation.refined.score import (
    dense_score,
    network_depth_error,
    pose_record,
    summarise,
)
from refinement.result import NETWORK, NO_DATA, VERIFIED, DenseMap, RefinedPicture, Refinement


def cameras(count: int) -> np.ndarray:
    poses = np.tile(np.eye(3, 4), (count, 1, 1))
    poses[:, 0, 3] = -np.arange(count)
    poses[:, 1, 3] = 0.3 * np.arange(count) ** 2
    return poses


def pictures(count: int, depth: tuple[np.ndarray, ...] | None = None) -> PictureSet:
    intrinsics = np.tile(np.eye(3), (count, 1, 1))
    paths = tuple(Path(f"{i}.png") for i in range(count))
    return PictureSet("set", "", paths, cameras(count), intrinsics, depth)


def refined(dense: tuple[DenseMap, ...] | None) -> Refinement:
    count = 1 if dense is None else len(dense)
    picture = RefinedPicture("refined", np.eye(3, 4), 1.0, 0.5, 0.5, 0.0, 1.0, 10, 5.0, (0.0, 1.0))
    return Refinement((picture,) * count, "mapped", 1.0, 0.5, None, dense=dense)


def test_right_cameras_score_everything_whatever_their_scale_and_world() -> None:
    moved = cameras(4)
    moved[:, :, 3] *= 7
    summary = summarise([pose_record(pictures(4), moved, np.ones(4, bool), 1.0)])
    assert summary.auc[3] > 99
    assert summary.placed == 1


@pytest.mark.parametrize("missing", [0, 3])
def test_a_picture_without_a_camera_makes_its_own_pairs_wrong_and_no_others(missing: int) -> None:
    found = cameras(4)
    found[missing] = np.nan
    record = pose_record(pictures(4), found, np.isfinite(found).all((1, 2)), 1.0)
    assert sorted(angle > 90 for angle in record.rotation_deg) == [False] * 3 + [True] * 3
    assert summarise([record]).auc[30] == pytest.approx(50, abs=2)


def test_depth_figures_look_at_verified_pixels_and_at_all_that_have_depth() -> None:
    true = np.full((2, 4), 2.0, np.float32)
    depth = np.array([[1, 1, 1, 1.1], [1, 1, 1.5, np.nan]], np.float32)
    source = np.array([[2, 2, 2, 2], [1, 1, 1, 0]], np.uint8)
    assert (NO_DATA, NETWORK, VERIFIED) == (0, 1, 2)
    found = dense_score(pictures(1, (true,)), refined((DenseMap(depth, source),)))
    assert found is not None
    assert found.coverage == 0.5
    assert found.points == 4
    assert found.verified_median == 0
    assert found.verified_abs_rel == pytest.approx(0.025)
    assert found.abs_rel == pytest.approx((0.1 + 0.5) / 7)


def test_a_smaller_dense_grid_is_compared_at_its_pixels_centres() -> None:
    true = np.repeat(np.repeat(np.array([[1, 2], [3, 4]], np.float32), 2, 0), 2, 1)
    depth = np.array([[10, 20], [30, 40]], np.float32)
    view = DenseMap(depth, np.full((2, 2), VERIFIED, np.uint8))
    found = dense_score(pictures(1, (true,)), refined((view,)))
    assert found is not None
    assert found.verified_abs_rel == pytest.approx(0, abs=1e-6)


def test_without_true_depth_only_what_is_covered_is_known() -> None:
    view = DenseMap(np.ones((2, 2), np.float32), np.array([[2, 2], [2, 0]], np.uint8))
    found = dense_score(pictures(1), refined((view,)))
    assert found is not None
    assert (found.abs_rel, found.coverage, found.points) == (None, 0.75, 3)
    assert dense_score(pictures(1), refined(None)) is None


def test_a_networks_depth_is_compared_where_it_saw_the_picture() -> None:
    true = np.array([[1, 2, 3, 4]], np.float32)
    said = np.array([[2, 4, 6, np.nan]], np.float32)
    assert network_depth_error(pictures(1, (true,)), [said]) == pytest.approx(0)
    assert network_depth_error(pictures(1), [said]) is None


def test_true_depth_on_a_smaller_grid_is_read_at_the_pixels_centres() -> None:
    true = np.array([[1, 2], [3, 0]], np.float32)
    predicted = 5 * np.repeat(np.repeat(np.array([[1, 2], [3, 4]], np.float32), 2, 0), 2, 1)
    assert network_depth_error(pictures(1, (true,)), [predicted]) == pytest.approx(0)


def test_a_network_has_no_depth_error_where_no_true_depth_is_known() -> None:
    assert network_depth_error(pictures(1), [np.ones((2, 2), np.float32)]) is None
    unknown = (np.zeros((2, 2), np.float32),)
    assert network_depth_error(pictures(1, unknown), [np.ones((2, 2), np.float32)]) is None
