from __future__ import annotations

import pytest
import torch

from model.rotations import quaternion_to_matrix
from training.losses import (
    attention_matching_loss,
    camera_loss,
    confident_error,
    gradient_error,
    masked_mean,
    matching_loss,
    relative_pose_loss,
)


def test_camera_loss_is_zero_at_the_truth_and_at_its_negated_quaternion() -> None:
    torch.manual_seed(0)
    true = torch.randn(2, 3, 9)
    negated = true.clone()
    negated[..., 3:7] *= -1
    assert camera_loss([true, negated], true) == 0


def test_camera_loss_weighs_the_last_iteration_most() -> None:
    true = torch.zeros(1, 2, 9)
    wrong = true + 1
    last_wrong, first_wrong = camera_loss([true, wrong], true), camera_loss([wrong, true], true)
    assert first_wrong.item() == pytest.approx(0.6 * last_wrong.item())


def _cameras(count: int) -> torch.Tensor:
    rotations = quaternion_to_matrix(torch.randn(2, count, 4))
    return torch.cat((rotations, torch.randn(2, count, 3, 1)), dim=-1)


def test_relative_pose_loss_vanishes_at_the_truth_wherever_the_world_lies() -> None:
    torch.manual_seed(0)
    true = _cameras(4)
    moved = _cameras(1)
    rotation = true[..., :3] @ moved[..., :3]  # the same cameras seen from another world
    translation = true[..., :3] @ moved[..., 3:] + true[..., 3:]
    assert relative_pose_loss(torch.cat((rotation, translation), dim=-1), true) < 2e-2


def test_relative_pose_loss_is_the_angle_while_it_is_small_and_ignores_the_scale() -> None:
    torch.manual_seed(1)
    angle = torch.tensor(0.1)
    true = torch.eye(4)[None, None, :3].repeat(1, 2, 1, 1)
    true[0, 1, :, 3] = torch.tensor([0.0, 1.0, 0.0])
    turned = true.clone()
    turned[0, 1, :2, :2] = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    farther = true.clone()
    farther[0, 1, 1, 3] = 3.0
    assert relative_pose_loss(farther, true).item() == pytest.approx(0, abs=2e-3)
    # the rotation is wrong both ways; the direction of translation only from the turned camera's
    # side
    assert relative_pose_loss(turned, true).item() == pytest.approx(0.1 + 0.1 / 2, abs=3e-3)


def test_relative_pose_loss_has_a_finite_gradient_at_the_truth_and_without_a_baseline() -> None:
    torch.manual_seed(2)
    true = _cameras(3)
    true[:, 1] = true[:, 0]
    predicted = true.clone().requires_grad_()
    relative_pose_loss(predicted, true).backward()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()


def test_dense_losses_are_zero_at_the_truth_with_unit_confidence() -> None:
    depth = torch.rand(1, 2, 6, 6) + 1
    valid = torch.ones_like(depth, dtype=torch.bool)
    assert confident_error((depth - depth).abs(), torch.ones_like(depth), valid) == 0
    assert gradient_error(depth, depth, valid) == 0


def test_gradient_error_ignores_a_constant_offset_and_sees_an_edge() -> None:
    depth = torch.rand(1, 6, 6)
    valid = torch.ones_like(depth, dtype=torch.bool)
    edge = depth.clone()
    edge[..., 3:] += 0.5
    assert gradient_error(depth + 1, depth, valid) < 1e-6
    assert gradient_error(edge, depth, valid).item() == pytest.approx(0.5 / 5, rel=1e-4)


def test_pixels_without_ground_truth_do_not_count() -> None:
    mask = torch.tensor([True, False, True])
    values = torch.tensor([1.0, float("nan"), 3.0], requires_grad=True)
    mean = masked_mean(values, mask)
    mean.backward()
    assert mean == 2
    assert values.grad is not None
    assert values.grad.tolist() == [0.5, 0.0, 0.5]
    assert masked_mean(torch.ones(3), torch.zeros(3, dtype=torch.bool)) == 0


def test_matching_loss_is_small_only_for_the_right_index() -> None:
    descriptors = 50 * torch.eye(4)[None]
    keys = torch.eye(4)[None]
    everything = torch.ones(1, 4, dtype=torch.bool)
    right, wrong = torch.arange(4)[None], torch.arange(4).roll(1)[None]
    assert matching_loss(descriptors, keys, right, everything) < 1e-6
    assert matching_loss(descriptors, keys, wrong, everything) > 10


def test_attention_matching_reads_the_patches_of_frame_zero() -> None:
    frames, special, patches, width = 3, 5, 4, 8
    q = torch.zeros(1, 2, frames, special + patches, width)
    k = torch.zeros_like(q)
    k[:, :, 0, special:, :patches] = 30 * torch.eye(patches)
    index = torch.tensor([[[1, 2, 3, 0], [3, 0, 2, 1]]])
    for frame in (1, 2):
        q[:, :, frame, special:, :patches] = torch.eye(patches)[index[0, frame - 1]]
    visible = torch.ones_like(index, dtype=torch.bool)
    q, k = q.flatten(2, 3), k.flatten(2, 3)
    loss, accuracy = attention_matching_loss(q, k, frames, special, index, visible)
    assert accuracy == 1
    assert loss < 1e-2
    loss, accuracy = attention_matching_loss(q, k, frames, special, (index + 1) % patches, visible)
    assert accuracy == 0
    assert loss > 5
