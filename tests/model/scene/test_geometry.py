from __future__ import annotations

import torch

from model.families.vggt.cameras import pose_encoding_to_cameras
from model.scene.geometry import invert_extrinsics, unproject_depth


def _pose_encodings(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    pose = torch.randn(count, 9, generator=generator)
    quaternion = torch.nn.functional.normalize(pose[:, 3:7], dim=-1)
    quaternion = torch.where(quaternion[:, 3:] < 0, -quaternion, quaternion)
    fields = torch.rand(count, 2, generator=generator) + 0.5
    return torch.cat((pose[:, :3], quaternion, fields), dim=-1)


def test_inverting_twice_gives_the_camera_back() -> None:
    extrinsics, _ = pose_encoding_to_cameras(_pose_encodings(20), (10, 10))
    torch.testing.assert_close(
        invert_extrinsics(invert_extrinsics(extrinsics))[:, :3], extrinsics, atol=1e-5, rtol=0
    )


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
        unproject_depth(depth[..., None], extrinsics, intrinsics),
        unproject_depth(depth, extrinsics, intrinsics),
    )
