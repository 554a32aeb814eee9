from __future__ import annotations

import numpy as np
import pytest

from scenes.synthetic.distribution import SceneDistribution
from scenes.synthetic.motion import MOTIONS, CameraPath, draw_path


def paths(motion: str, num_views: int, count: int = 200) -> list[tuple[CameraPath, np.ndarray]]:
    weights = {f"{name}_weight": float(name == motion) for name in MOTIONS}
    room = np.array([3.0, 1.3, 4.8])
    return [
        (
            draw_path(np.random.default_rng(seed), SceneDistribution(**weights), num_views, room),
            room,
        )
        for seed in range(count)
    ]


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("num_views", [1, 2, 5, 12])
def test_cameras_stay_off_the_walls(motion: str, num_views: int) -> None:
    for path, room in paths(motion, num_views):
        assert path.motion == motion
        assert path.centres.shape == (num_views, 3)
        assert (np.abs(path.centres[:, [0, 2]]) < room[[0, 2]] - 0.2).all()
        assert (-2 * room[1] + 0.2 < path.centres[:, 1]).all()
        assert (path.centres[:, 1] < -0.5).all()


def test_less_movement_brings_cameras_together_that_still_look_at_the_same_place() -> None:
    room = np.array([3.0, 1.3, 4.8])
    for seed in range(20):
        usual, still = (
            draw_path(np.random.default_rng(seed), SceneDistribution(movement=share), 4, room)
            for share in (1.0, 0.03)
        )
        away = still.centres - still.centres.mean(axis=0)
        np.testing.assert_allclose(
            away, 0.03 * (usual.centres - usual.centres.mean(axis=0)), atol=1e-12
        )
        towards = still.focus - still.centres
        cosine = (still.rotations[:, 2] * towards).sum(1) / np.linalg.norm(towards, axis=1)
        assert (cosine > 0.8).all()


def test_orbit_cameras_are_spread_over_the_arc() -> None:
    for path, _ in paths("orbit", 4):
        offsets = path.centres - path.focus
        azimuths = np.sort(
            np.unwrap(np.sort(np.rad2deg(np.arctan2(offsets[:, 0], offsets[:, 2]))), period=360)
        )
        gaps = np.diff(np.append(azimuths, azimuths[0] + 360))
        inner = np.sort(gaps)[:-1]  # the widest gap is the way round the back
        assert inner.min() > 0.4 * 2 * 15 / 4 - 1e-6
        assert inner.sum() < 120


def test_the_views_of_an_orbit_come_in_random_order() -> None:
    orders = set()
    for path, _ in paths("orbit", 3, count=60):
        relative = path.centres - path.focus
        azimuth = np.arctan2(relative[:, 0], relative[:, 2])
        orders.add(tuple(np.argsort((azimuth - azimuth[0] + np.pi) % (2 * np.pi))))
    assert len(orders) > 2


def test_a_dolly_hardly_turns_and_a_camera_looks_near_its_focus() -> None:
    for path, _ in paths("dolly", 3):
        assert (path.rotations[0, 2] @ path.rotations[1:, 2].T > 0.5).all()
    for path, _ in paths("handheld", 3):
        to_focus = path.focus - path.centres
        to_focus /= np.linalg.norm(to_focus, axis=1, keepdims=True)
        assert ((path.rotations[:, 2] * to_focus).sum(axis=1) > 0.6).all()
