"""VGGT's encoding of a camera and what it means.

Pose encoding "absT_quaR_FoV", 9 numbers: translation, quaternion (x, y, z, w), vertical then
horizontal field of view in radians. It stands for a world-to-camera `[R | t]` with OpenCV axes; the
principal point is the image centre.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.rotations import matrix_to_quaternion, quaternion_to_matrix


def pose_encoding_to_cameras(
    pose_enc: Tensor, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Extrinsics `[..., 3, 4]` and intrinsics `[..., 3, 3]` (pixels) for images of (height, width).

    A field of view of 0 gives an infinite focal length.
    """
    height, width = image_size
    translation, quaternion, fov_h, fov_w = (
        pose_enc[..., :3],
        pose_enc[..., 3:7],
        pose_enc[..., 7],
        pose_enc[..., 8],
    )
    extrinsics = torch.cat((quaternion_to_matrix(quaternion), translation[..., None]), dim=-1)
    intrinsics = pose_enc.new_zeros(*pose_enc.shape[:-1], 3, 3)
    intrinsics[..., 0, 0] = (width / 2) / torch.tan(fov_w / 2)
    intrinsics[..., 1, 1] = (height / 2) / torch.tan(fov_h / 2)
    intrinsics[..., 0, 2] = width / 2
    intrinsics[..., 1, 2] = height / 2
    intrinsics[..., 2, 2] = 1
    return extrinsics, intrinsics


def cameras_to_pose_encoding(
    extrinsics: Tensor, intrinsics: Tensor, image_size: tuple[int, int]
) -> Tensor:
    """Pose encoding `[..., 9]`, float32; the inverse of `pose_encoding_to_cameras`. Ignores the
    principal point."""
    height, width = image_size
    fov_h = 2 * torch.atan((height / 2) / intrinsics[..., 1, 1])
    fov_w = 2 * torch.atan((width / 2) / intrinsics[..., 0, 0])
    quaternion = matrix_to_quaternion(extrinsics[..., :3, :3])
    fields = torch.stack((fov_h, fov_w), dim=-1)
    return torch.cat((extrinsics[..., :3, 3], quaternion, fields), dim=-1).float()
