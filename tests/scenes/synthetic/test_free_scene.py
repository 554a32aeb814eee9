from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scenes.synthetic.distribution import FreeScenes, SceneDistribution
from scenes.synthetic.free_scene import FreeScene, draw_free_scene

KINDS = {
    "room": FreeScenes(relief_share=0, facade_share=0),
    "relief": FreeScenes(relief_share=1, facade_share=0),
    "facade": FreeScenes(relief_share=0, facade_share=1),
    "narrow": FreeScenes().narrowed(0.01),
}
EVERY_KIND = pytest.mark.parametrize("free", KINDS.values(), ids=KINDS)


def scenes(free: FreeScenes, count: int = 80, views: int = 4) -> list[FreeScene]:
    distribution = SceneDistribution(free_share=1.0, free=free)
    return [
        draw_free_scene(np.random.default_rng(seed), distribution, views) for seed in range(count)
    ]


@EVERY_KIND
def test_cameras_are_rigid_apart_and_inside_the_room(free: FreeScenes) -> None:
    for scene in scenes(free):
        path, room = scene.path, scene.room
        assert np.allclose(path.rotations @ path.rotations.transpose(0, 2, 1), np.eye(3))
        assert np.allclose(np.linalg.det(path.rotations), 1)
        assert (np.abs(path.centres - room.centres[0]) < room.half_extents[0] - 0.1).all()
        apart = np.linalg.norm(path.centres[:, None] - path.centres, axis=-1) + 9 * np.eye(
            len(path.centres)
        )
        assert apart.min() > 0.005


@EVERY_KIND
def test_no_camera_is_in_an_object(free: FreeScenes) -> None:
    for scene in scenes(free):
        room = scene.room
        local = np.einsum(
            "kij,skj->ski", room.rotations, scene.path.centres[:, None] - room.centres
        )
        outside = (np.abs(local) > room.half_extents).any(axis=-1)
        assert outside[:, 1:-1].all()
        if scene.amplitude > 0:
            assert (local[:, -1, 2] > scene.amplitude).all()


@EVERY_KIND
def test_cameras_look_towards_the_focus(free: FreeScenes) -> None:
    for scene in scenes(free):
        towards = scene.path.focus - scene.path.centres
        ahead = (scene.path.rotations[:, 2] * towards).sum(axis=1) / np.linalg.norm(towards, axis=1)
        assert (ahead > 0.3).all()


def test_pitch_roll_and_turns_follow_the_distribution() -> None:
    def measured(free: FreeScenes) -> tuple[float, float]:
        found = scenes(free, 200, 2)
        pitch = [np.degrees(np.arcsin(scene.path.rotations[:, 2, 1])).mean() for scene in found]
        roll = [
            np.degrees(np.arctan2(scene.path.rotations[:, 0, 1], scene.path.rotations[:, 1, 1]))
            for scene in found
        ]
        return float(np.std(pitch)), float(np.std(roll))

    level = replace(KINDS["room"], pitch=0.0, roll_sigma=0.0, arc_tilt=0.0, look_at_jitter=0.0)
    pitch, roll = measured(level)
    assert pitch < 8
    assert roll < 1e-6
    wide_pitch, wide_roll = measured(KINDS["room"])
    assert wide_pitch > pitch + 8
    assert 8 < wide_roll < 25


def test_only_house_fronts_have_a_sky_and_only_reliefs_a_relief() -> None:
    for name, free in KINDS.items():
        for scene in scenes(free, 20):
            assert scene.sky == (name == "facade")
            assert (scene.amplitude > 0) == (name == "relief")
            assert (scene.heights > 0).all() == (name == "relief")
