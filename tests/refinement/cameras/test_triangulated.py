from __future__ import annotations

from dataclasses import replace

import numpy as np

from refinement.camera_set import CameraSet
from refinement.cameras.solution import Solution, Tracks
from refinement.cameras.triangulated import with_cameras

SIZE = 1000


def cameras(count: int = 3) -> CameraSet:
    """In a row, a little distorted."""
    extrinsics = np.tile(np.eye(4)[:3], (count, 1, 1))
    extrinsics[:, 0, 3] = -0.3 * np.arange(count)
    return CameraSet(
        extrinsics,
        np.full(count, 900.0),
        np.full((count, 2), SIZE / 2),
        np.full(count, -0.05),
        np.full(count, SIZE),
    )


def seen(xyz: np.ndarray, of: CameraSet) -> Solution:
    """Every camera sees every point."""
    count = len(of.focal)
    picture = np.tile(np.arange(count), len(xyz))
    point = np.repeat(np.arange(len(xyz)), count)
    local = xyz[point] + of.extrinsics[picture, :, 3]
    ray = local[:, :2] / local[:, 2:]
    radial = 1 + of.distortion[picture] * (ray**2).sum(1)
    pixel = ray * (of.focal[picture] * radial)[:, None] + of.centre[picture]
    somewhere = np.zeros_like(xyz)
    tracks = Tracks(somewhere, point, picture, pixel)
    return Solution("seeded", of, np.ones(count, bool), tracks)


def points() -> np.ndarray:
    random = np.random.default_rng(0)
    return np.column_stack((random.uniform(-1, 1, (20, 2)), random.uniform(3, 6, 20)))


def test_points_lie_where_the_rays_of_the_cameras_meet() -> None:
    found = with_cameras(seen(points(), cameras()), cameras())
    np.testing.assert_allclose(found.tracks.xyz, points(), atol=1e-6)


def test_points_that_the_cameras_do_not_see_there_are_left_out() -> None:
    solution = seen(points(), cameras())
    pixel = solution.tracks.pixel.copy()
    pixel[4] += (0, 30)  # of point 1
    pixel[6:9, 0] = pixel[6:9, 0][::-1]  # point 2 lies behind
    found = with_cameras(replace(solution, tracks=replace(solution.tracks, pixel=pixel)), cameras())
    left = np.delete(points(), [1, 2], axis=0)
    np.testing.assert_allclose(found.tracks.xyz, left, atol=1e-6)
    assert np.array_equal(found.tracks.point, np.repeat(np.arange(18), 3))


def test_rays_that_do_not_cross_give_no_point() -> None:
    one_place = replace(cameras(), extrinsics=np.tile(np.eye(4)[:3], (3, 1, 1)))
    found = with_cameras(seen(points(), one_place), one_place)
    assert np.isfinite(found.tracks.xyz).all()
    assert len(found.tracks.xyz) == found.tracks.point.max(initial=-1) + 1
