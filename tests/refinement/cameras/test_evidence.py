from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from refinement.camera_set import CameraSet

pytest.importorskip("pycolmap")

from refinement.cameras.evidence import Matches


def scene() -> tuple[CameraSet, Matches]:
    """Two cameras a step apart, and what both see of 200 points."""
    random = np.random.default_rng(0)
    points = random.uniform((-1, -1, 3), (1, 1, 6), (200, 3))
    extrinsics = np.stack([np.eye(4)[:3]] * 2)
    extrinsics[1, 0, 3] = -0.5
    cameras = CameraSet(
        extrinsics,
        np.array([900.0, 800.0]),
        np.array([[500.0, 400.0], [480.0, 420.0]]),
        np.array([0.0, -0.1]),
        np.array([1000, 1000]),
    )
    pixels = []
    for i in range(2):
        local = points @ extrinsics[i, :, :3].T + extrinsics[i, :, 3]
        ray = local[:, :2] / local[:, 2:]
        radial = 1 + cameras.distortion[i] * (ray**2).sum(1, keepdims=True)
        pixels.append(cameras.focal[i] * radial * ray + cameras.centre[i])
    matches = Matches(
        pictures=np.array([[0, 1]]),
        planar=np.array([False]),
        pair=np.zeros(200, dtype=np.int64),
        key_point=np.zeros((200, 2), dtype=np.int64),
        pixel=np.stack(pixels, axis=1),
    )
    return cameras, matches


def moved(cameras: CameraSet, translation: tuple[float, float, float]) -> CameraSet:
    extrinsics = cameras.extrinsics.copy()
    extrinsics[1, :, 3] = translation
    return replace(cameras, extrinsics=extrinsics)


def test_true_cameras_satisfy_all_of_their_matches() -> None:
    cameras, matches = scene()
    assert matches.supported(cameras).all()
    assert matches.count(matches.supported(cameras), 2).tolist() == [[0, 200], [200, 0]]


def test_the_tolerance_is_two_thousandths_of_the_longer_side() -> None:
    cameras, matches = scene()
    for pixels, supported in ((1.5, True), (8.0, False)):
        off = matches.pixel.copy()
        off[:, 1, 1] += pixels  # across the epipolar lines
        assert (replace(matches, pixel=off).supported(cameras).mean() > 0.9) == supported


def test_points_behind_the_cameras_are_not_supported() -> None:
    cameras, matches = scene()
    assert not matches.supported(moved(cameras, (0.5, 0, 0))).any()


def test_a_wrong_direction_is_not_supported() -> None:
    cameras, matches = scene()
    assert matches.supported(moved(cameras, (0, -0.5, 0))).mean() < 0.2


def test_identical_pictures_support_cameras_that_stand_still() -> None:
    cameras, matches = scene()
    still = replace(moved(cameras, (0, 0, 0)), focal=np.full(2, 900.0), distortion=np.zeros(2))
    still = replace(still, centre=np.full((2, 2), 500.0))
    pixel = np.repeat(matches.pixel[:, :1], 2, axis=1)
    assert replace(matches, pixel=pixel).supported(still).all()


def test_rays_undo_the_distortion() -> None:
    cameras, _ = scene()
    cameras = replace(cameras, distortion=np.array([0.2, -0.3]))
    random = np.random.default_rng(1)
    ray = random.uniform(-0.5, 0.5, (100, 2))
    picture = random.integers(0, 2, 100)
    radial = 1 + cameras.distortion[picture] * (ray**2).sum(1)
    pixel = ray * (cameras.focal[picture] * radial)[:, None] + cameras.centre[picture]
    np.testing.assert_allclose(cameras.rays(picture, pixel), ray, atol=1e-8)


def test_rays_beyond_the_fold_of_the_lens_are_unknown() -> None:
    cameras, _ = scene()
    cameras = replace(cameras, distortion=np.array([-0.5, 0.0]))
    assert np.isnan(cameras.rays(np.zeros(1, np.int64), np.array([[5000.0, 400.0]]))).all()
