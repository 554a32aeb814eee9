from __future__ import annotations

import math

import pytest
import torch

from model.scene.geometry import (
    cameras_to_pose_encoding,
    invert_extrinsics,
    matrix_to_quaternion,
    pose_encoding_to_cameras,
    quaternion_to_matrix,
    unproject_depth,
)


def _pose_encodings(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    pose = torch.randn(count, 9, generator=generator)
    quaternion = torch.nn.functional.normalize(pose[:, 3:7], dim=-1)
    quaternion = torch.where(quaternion[:, 3:] < 0, -quaternion, quaternion)
    fields = torch.rand(count, 2, generator=generator) + 0.5
    return torch.cat((pose[:, :3], quaternion, fields), dim=-1)


def test_encoding_undoes_decoding() -> None:
    pose = _pose_encodings(50)
    extrinsics, intrinsics = pose_encoding_to_cameras(pose, (300, 400))
    torch.testing.assert_close(cameras_to_pose_encoding(extrinsics, intrinsics, (300, 400)), pose, atol=1e-5, rtol=1e-5)


def test_decoded_rotations_are_orthonormal_whatever_the_quaternions_length() -> None:
    rotation = quaternion_to_matrix(5 * _pose_encodings(50)[:, 3:7])
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand_as(rotation), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(50))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_turns_have_a_quaternion(axis: int) -> None:
    half_turn = -torch.eye(3)
    half_turn[axis, axis] = 1
    quaternion = matrix_to_quaternion(half_turn)
    torch.testing.assert_close(quaternion_to_matrix(quaternion), half_turn)


def test_the_field_of_view_spans_the_image() -> None:
    pose = torch.tensor([0.0, 0, 0, 0, 0, 0, 1, math.pi / 2, math.pi / 3])
    _, intrinsics = pose_encoding_to_cameras(pose, (100, 200))
    assert intrinsics[1, 1].item() == pytest.approx(50)
    assert intrinsics[0, 0].item() == pytest.approx(100 / math.tan(math.pi / 6))
    assert intrinsics[:2, 2].tolist() == [100, 50]


def test_inverting_twice_gives_the_camera_back() -> None:
    extrinsics, _ = pose_encoding_to_cameras(_pose_encodings(20), (10, 10))
    torch.testing.assert_close(invert_extrinsics(invert_extrinsics(extrinsics))[:, :3], extrinsics, atol=1e-5, rtol=0)


def test_unprojected_points_project_back_onto_their_pixels() -> None:
    extrinsics, intrinsics = pose_encoding_to_cameras(_pose_encodings(6).view(2, 3, 9), (8, 12))
    depth = torch.rand(2, 3, 8, 12) + 0.5
    world = unproject_depth(depth, extrinsics, intrinsics)
    camera = world @ extrinsics[..., None, :3, :3].mT + extrinsics[..., None, None, :3, 3]
    pixels = camera @ intrinsics[..., None, :, :].mT
    torch.testing.assert_close(pixels[..., 2], depth, atol=1e-5, rtol=1e-5)
    u = (pixels[..., 0] / pixels[..., 2]).round()
    assert torch.equal(u, torch.arange(12.0).expand_as(u))


def test_a_predictions_trailing_depth_axis_is_accepted() -> None:
    extrinsics, intrinsics = pose_encoding_to_cameras(_pose_encodings(3), (4, 5))
    depth = torch.rand(3, 4, 5)
    assert torch.equal(
        unproject_depth(depth[..., None], extrinsics, intrinsics), unproject_depth(depth, extrinsics, intrinsics)
    )
