from __future__ import annotations

import math

import pytest
import torch

from model.families.vggt.cameras import cameras_to_pose_encoding, pose_encoding_to_cameras


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
    torch.testing.assert_close(
        cameras_to_pose_encoding(extrinsics, intrinsics, (300, 400)), pose, atol=1e-5, rtol=1e-5
    )


def test_the_field_of_view_spans_the_image() -> None:
    pose = torch.tensor([0.0, 0, 0, 0, 0, 0, 1, math.pi / 2, math.pi / 3])
    _, intrinsics = pose_encoding_to_cameras(pose, (100, 200))
    assert intrinsics[1, 1].item() == pytest.approx(50)
    assert intrinsics[0, 0].item() == pytest.approx(100 / math.tan(math.pi / 6))
    assert intrinsics[:2, 2].tolist() == [100, 50]
