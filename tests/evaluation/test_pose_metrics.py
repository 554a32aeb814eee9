from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from evaluation.pose_metrics import (
    UNDEFINED_TRANSLATION_DEG,
    pose_auc,
    pose_histogram,
    relative_pose_errors,
    relative_to_first,
)
from model.rotations import rotation_angle
from model.scene.geometry import pytorch3d_to_opencv


def about(axis: str, degrees: float) -> Tensor:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return {
        "x": torch.tensor([[1, 0, 0], [0, c, -s], [0, s, c]], dtype=torch.float64),
        "y": torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.float64),
        "z": torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64),
    }[axis]


def pose(rotation: Tensor, translation: tuple[float, float, float]) -> Tensor:
    return torch.cat((rotation, torch.tensor(translation, dtype=torch.float64)[:, None]), dim=1)


@pytest.fixture
def true_poses() -> Tensor:
    rotations = [about("x", 10) @ about("y", 25 * i) for i in range(4)]
    offsets = [(0.3, 0, 1), (1, -0.5, 2), (-1, 0.4, 1.5), (0.1, 2, 1)]
    return torch.stack([pose(r, t) for r, t in zip(rotations, offsets, strict=True)])


@pytest.mark.parametrize("degrees", [0.0, 1e-3, 1.0, 37.5, 120.0, 179.0, 180.0])
@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_the_angle_of_a_known_rotation_is_found(axis: str, degrees: float) -> None:
    base = about("x", 33)
    assert float(rotation_angle(base @ about(axis, degrees), base)) == pytest.approx(
        degrees, abs=1e-5
    )


def test_float32_rounding_does_not_look_like_a_rotation() -> None:
    rotation = about("x", 20) @ about("z", 71)
    assert float(rotation_angle(rotation.float(), rotation)) < 1e-4


def test_a_turn_of_one_camera_shows_in_every_pair_that_contains_it(true_poses: Tensor) -> None:
    predicted = true_poses.clone()
    predicted[2, :, :3] = about("y", 7) @ predicted[2, :, :3]
    rotation, _ = relative_pose_errors(predicted, true_poses)
    # pairs (0,1) (0,2) (0,3) (1,2) (1,3) (2,3)
    torch.testing.assert_close(
        rotation, torch.tensor([0, 7, 0, 7, 0, 7], dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_neither_world_frame_nor_scale_matters(true_poses: Tensor) -> None:
    world = torch.eye(4, dtype=torch.float64)
    world[:3] = pose(about("z", 50) @ about("x", -20), (3, -1, 2))
    predicted = true_poses @ world
    predicted[..., 3] = predicted[..., 3]
    relative = relative_to_first(predicted)
    relative[..., 3] *= 7.5
    rotation, translation = relative_pose_errors(relative, true_poses)
    assert rotation.max() < 1e-6
    assert translation.max() < 1e-5


def test_homogeneous_and_three_row_poses_give_the_same(true_poses: Tensor) -> None:
    last = torch.tensor([0.0, 0, 0, 1]).double().expand(4, 1, 4)
    predicted = true_poses.flip(0)
    expected = relative_pose_errors(predicted, true_poses)
    found = relative_pose_errors(
        torch.cat((predicted, last), dim=1), torch.cat((true_poses, last), dim=1)
    )
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_leading_axis_holds_independent_scenes(true_poses: Tensor) -> None:
    predicted = torch.stack((true_poses, true_poses.flip(0)))
    rotation, translation = relative_pose_errors(predicted, torch.stack((true_poses, true_poses)))
    alone = relative_pose_errors(true_poses.flip(0), true_poses)
    torch.testing.assert_close((rotation[1], translation[1]), alone)
    assert rotation.shape == (2, 6)


@pytest.mark.parametrize(("degrees", "expected"), [(0, 0), (30, 30), (90, 90), (150, 30), (180, 0)])
def test_the_sign_of_a_translation_direction_is_ignored(degrees: float, expected: float) -> None:
    identity = torch.eye(3, dtype=torch.float64)
    origin = pose(identity, (0, 0, 0))
    true = torch.stack((origin, pose(identity, (2, 0, 0))))
    turned = (about("z", degrees) @ torch.tensor([1.0, 0, 0]).double()).tolist()
    _, translation = relative_pose_errors(
        torch.stack((origin, pose(identity, tuple(turned)))), true
    )
    assert float(translation) == pytest.approx(expected, abs=1e-6)


def test_a_zero_translation_has_no_direction_and_scores_90(true_poses: Tensor) -> None:
    still = torch.cat(
        (relative_to_first(true_poses)[..., :3], torch.zeros(4, 3, 1).double()), dim=-1
    )
    _, translation = relative_pose_errors(still, true_poses)
    assert translation.tolist() == [90.0] * 6


def test_a_pose_that_is_not_finite_counts_as_wrong_and_stays_in_the_mean(
    true_poses: Tensor,
) -> None:
    predicted = true_poses.clone()
    predicted[3] = torch.nan
    rotation, translation = relative_pose_errors(predicted, true_poses)
    assert rotation[[2, 4, 5]].tolist() == [180.0] * 3
    assert translation[[2, 4, 5]].tolist() == [UNDEFINED_TRANSLATION_DEG] * 3
    in_degrees = 1e6 * 180 / math.pi  # the protocol's million radians
    assert min(in_degrees, abs(180 - in_degrees)) == UNDEFINED_TRANSLATION_DEG
    assert pose_auc(rotation, translation, 30) == pytest.approx(50.0)


def test_auc_of_a_hand_computed_example() -> None:
    rotation, translation = torch.tensor([0.5, 1.5, 2.5, 40.0]), torch.tensor([0.0, 0.0, 2.0, 0.0])
    assert pose_histogram(rotation, translation, 3).tolist() == [0.25, 0.25, 0.25]
    assert pose_auc(rotation, translation, 3) == pytest.approx(100 * (0.25 + 0.5 + 0.75) / 3)


def test_a_bin_owns_its_lower_edge_and_the_last_bin_also_its_upper_one() -> None:
    error = torch.tensor([0.0, 1.0, 2.0, 3.0, 3.0001])
    assert pose_histogram(error, torch.zeros(5), 3).tolist() == pytest.approx([0.2, 0.2, 0.4])


def test_perfect_poses_score_100_and_hopeless_ones_0() -> None:
    zero = torch.zeros(3)
    assert pose_auc(zero, zero, 5) == pytest.approx(100)
    assert pose_auc(zero + 6, zero, 5) == 0


def test_a_pytorch3d_camera_sees_the_same_point_at_the_flipped_place() -> None:
    rotation, translation = about("x", 30) @ about("y", 40), torch.tensor([0.2, -0.4, 3.0]).double()
    point = torch.tensor([0.5, 0.1, -0.3]).double()
    left_up_forward = point @ rotation + translation  # PyTorch3D: row vectors, x left, y up
    extrinsic = pytorch3d_to_opencv(rotation, translation)
    right_down_forward = extrinsic[:, :3] @ point + extrinsic[:, 3]
    torch.testing.assert_close(
        right_down_forward, left_up_forward * torch.tensor([-1.0, -1, 1]).double()
    )
    assert float(torch.linalg.det(extrinsic[:, :3])) == pytest.approx(1)


def test_wrong_shapes_and_thresholds_are_refused(true_poses: Tensor) -> None:
    with pytest.raises(ValueError, match="same frames"):
        relative_pose_errors(true_poses[:3], true_poses)
    with pytest.raises(ValueError, match="at least 2 frames"):
        relative_pose_errors(true_poses[:1], true_poses[:1])
    with pytest.raises(ValueError, match=r"\[\.\.\., S, 3, 4\]"):
        relative_pose_errors(true_poses[..., :3], true_poses[..., :3])
    with pytest.raises(ValueError, match="threshold"):
        pose_auc(torch.zeros(1), torch.zeros(1), 0)
    with pytest.raises(ValueError, match="non-empty"):
        pose_auc(torch.zeros(0), torch.zeros(0), 5)
    with pytest.raises(ValueError, match="expected a rotation"):
        pytorch3d_to_opencv(torch.eye(3), torch.zeros(2))
