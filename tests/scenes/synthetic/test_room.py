from __future__ import annotations

import numpy as np

from scenes.synthetic.distribution import SceneDistribution
from scenes.synthetic.motion import draw_path
from scenes.synthetic.room import CAMERA_CLEARANCE, Room, draw_room, draw_room_size


def rooms(count: int = 150) -> list[tuple[Room, np.ndarray, np.ndarray]]:
    """Rooms, their half extents and their cameras."""
    drawn = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        distribution = SceneDistribution()
        half = draw_room_size(rng, distribution)
        path = draw_path(rng, distribution, 4, half)
        drawn.append(
            (draw_room(rng, distribution, half, path.centres, path.focus), half, path.centres)
        )
    return drawn


def standing(room: Room) -> np.ndarray:
    """Indices of the solids that found a place, the room itself left out."""
    return 1 + np.flatnonzero(room.centres[1:, 1] < 0)


def test_no_camera_is_in_a_solid_or_close_to_one() -> None:
    for room, _, cameras in rooms():
        for solid in standing(room):
            local = ((cameras - room.centres[solid]) @ room.rotations[solid].T)[:, [0, 2]]
            extent = room.half_extents[solid, [0, 2]]
            if solid >= len(room.centres) - room.num_spheres:
                distance = np.linalg.norm(local, axis=1) - extent[0]
            else:
                distance = np.linalg.norm(np.maximum(np.abs(local) - extent, 0), axis=1)
            assert (distance >= CAMERA_CLEARANCE - 1e-9).all()


def test_solids_stand_on_the_floor_or_spheres_on_a_box_and_within_the_walls() -> None:
    stacked = 0
    for room, half, _ in rooms():
        first_sphere = len(room.centres) - room.num_spheres
        tops = [
            room.centres[k, 1] - room.half_extents[k, 1] for k in standing(room) if k < first_sphere
        ]
        for solid in standing(room):
            bottom = room.centres[solid, 1] + room.half_extents[solid, 1]
            on_box = solid >= first_sphere and any(abs(bottom - top) < 1e-9 for top in tops)
            stacked += on_box
            assert on_box or abs(bottom) < 1e-9
            assert (np.abs(room.centres[solid, [0, 2]]) < half[[0, 2]]).all()
            assert room.centres[solid, 1] - room.half_extents[solid, 1] > -2 * half[1]
    assert stacked > 0


def test_rooms_are_furnished_and_differ() -> None:
    counts = [len(standing(room)) for room, _, _ in rooms()]
    assert np.mean(counts) > 3
    assert len(set(counts)) > 3


def test_solids_are_only_turned_about_the_vertical() -> None:
    for room, _, _ in rooms(20):
        identity = room.rotations @ room.rotations.transpose(0, 2, 1)
        np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), identity.shape), atol=1e-12)
        np.testing.assert_allclose(
            room.rotations[:, 1], np.tile([0.0, 1.0, 0.0], (len(room.centres), 1))
        )
