from __future__ import annotations

import pytest
import torch

from model.rotations import matrix_to_quaternion, quaternion_to_matrix


def test_rotations_are_orthonormal_whatever_the_quaternions_length() -> None:
    rotation = quaternion_to_matrix(
        5 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    )
    torch.testing.assert_close(
        rotation @ rotation.mT, torch.eye(3).expand_as(rotation), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(50))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_turns_have_a_quaternion(axis: int) -> None:
    half_turn = -torch.eye(3)
    half_turn[axis, axis] = 1
    quaternion = matrix_to_quaternion(half_turn)
    torch.testing.assert_close(quaternion_to_matrix(quaternion), half_turn)
