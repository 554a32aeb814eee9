from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.scene.similarity import camera_centres as centres_of
from quantvggt.demo.poses import align, pair_errors


def camera_centres(extrinsics: np.ndarray) -> np.ndarray:
    return centres_of(torch.from_numpy(extrinsics)).numpy()


def rotation(axis: list[float], degrees: float) -> NDArray[np.float64]:
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def camera(turn: NDArray[np.float64], centre: list[float]) -> NDArray[np.float64]:
    return np.concatenate([turn, -(turn @ np.array(centre))[:, None]], axis=1)


@pytest.fixture
def cameras() -> NDArray[np.float64]:
    places = [
        ([0.0, 0.0, 0.0], 0.0),
        ([1.0, 0.1, 0.2], 20.0),
        ([1.5, -0.2, 1.0], 50.0),
        ([0.3, 0.4, 2.0], 90.0),
    ]
    return np.stack(
        [camera(rotation([0.1, 1.0, 0.2], degrees), centre) for centre, degrees in places]
    )


def moved(cameras: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """The same cameras in a world that is turned, shifted and scaled."""
    turn, shift = rotation([1.0, 2.0, 3.0], 70.0), np.array([3.0, -1.0, 2.0])
    centres = scale * camera_centres(cameras) @ turn.T + shift
    return np.stack(
        [camera(c[:, :3] @ turn.T, list(p)) for c, p in zip(cameras, centres, strict=True)]
    )


@pytest.mark.parametrize("count", [2, 3, 4])
def test_errors_do_not_see_world_and_scale(cameras: NDArray[np.float64], count: int) -> None:
    errors = pair_errors(moved(cameras, 2.5)[:count], cameras[:count])
    assert len(errors) == count * (count - 1) // 2
    assert max(max(e.rotation, e.translation_direction) for e in errors) < 1e-5


@pytest.mark.parametrize("degrees", [0.01, 10.0, 90.0, 179.9])
def test_a_turned_camera_is_off_by_its_angle(cameras: NDArray[np.float64], degrees: float) -> None:
    turned = cameras.copy()
    turned[1] = camera(
        rotation([1, 0, 0], degrees) @ cameras[1, :, :3], list(camera_centres(cameras)[1])
    )
    assert pair_errors(turned[:2], cameras[:2])[0].rotation == pytest.approx(degrees, abs=1e-6)


def test_a_camera_on_the_wrong_side_is_off_by_a_half_turn() -> None:
    right, left = (
        np.stack([camera(np.eye(3), [0, 0, 0]), camera(np.eye(3), [x, 0, 0])]) for x in (1, -1)
    )
    assert pair_errors(right, left)[0].translation_direction == pytest.approx(180)


@pytest.mark.parametrize("count", [2, 4])
def test_alignment_undoes_a_similarity(cameras: NDArray[np.float64], count: int) -> None:
    np.testing.assert_allclose(
        align(moved(cameras, 2.5)[:count], cameras[:count]), cameras[:count], atol=1e-9
    )


def test_one_camera_is_aligned_without_a_scale(cameras: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(align(moved(cameras, 3.0)[:1], cameras[:1]), cameras[:1], atol=1e-9)
