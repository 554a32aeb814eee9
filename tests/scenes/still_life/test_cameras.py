from __future__ import annotations

import numpy as np
import pytest

from scenes.still_life.cameras import FIELD_OF_VIEW, HEIGHT, SUBJECT, WIDTH, intrinsic, look, walk


def test_cameras_walk_past_the_subject_in_steps_of_8_to_15_degrees() -> None:
    cameras = walk(7)
    assert len(cameras) == 8
    rays = np.array([camera.centre - SUBJECT for camera in cameras])
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    steps = np.degrees(np.arccos((rays[:-1] * rays[1:]).sum(axis=1)))
    assert steps.min() > 7
    assert steps.max() < 15
    assert (np.diff(rays[:, 0]) > 0).all()
    assert np.ptp([camera.centre[1] for camera in cameras]) > 0.03


def test_every_camera_is_a_rotation_and_sees_the_subject_near_the_middle() -> None:
    for camera in walk(7):
        rotation = camera.extrinsic[:, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)
        x, y, z = intrinsic() @ (rotation @ SUBJECT + camera.extrinsic[:, 3])
        assert abs(x / z - WIDTH / 2) < 40
        assert abs(y / z - HEIGHT / 2) < 40
        assert rotation[1, 1] < -0.8  # the world's y points up, the camera's down


def test_the_same_seed_gives_the_same_walk() -> None:
    first, second = walk(7), walk(7)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.extrinsic, b.extrinsic)
    assert not np.allclose(first[0].extrinsic, walk(8)[0].extrinsic)


def test_the_field_of_view_is_that_of_the_whole_width() -> None:
    matrix = intrinsic(256)
    edge = np.degrees(np.arctan2(matrix[0, 2], matrix[0, 0]))
    assert 2 * edge == pytest.approx(FIELD_OF_VIEW)
    np.testing.assert_allclose(matrix[:2, 2], [128, 96])


def test_a_rolled_camera_still_looks_at_its_target() -> None:
    centre, target = np.array([1.0, 2.0, 3.0]), np.array([0.2, 0.1, -0.5])
    for roll in (-30.0, 0.0, 90.0):
        extrinsic = look(centre, target, roll)
        seen = extrinsic[:, :3] @ target + extrinsic[:, 3]
        np.testing.assert_allclose(seen[:2], 0, atol=1e-12)
        assert seen[2] == pytest.approx(np.linalg.norm(target - centre))
        assert np.degrees(np.arccos(extrinsic[1, :3] @ look(centre, target, 0)[1, :3])) == (
            pytest.approx(abs(roll), abs=1e-5)
        )
