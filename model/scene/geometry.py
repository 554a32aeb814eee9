"""Cameras and points. Extrinsics are world-to-camera `[R | t]` with OpenCV axes (x right, y down, z
forward)."""

from __future__ import annotations

import torch
from torch import Tensor

from model.rotations import invert_extrinsics

__all__ = [
    "depth_to_camera_points",
    "invert_extrinsics",
    "pytorch3d_to_opencv",
    "unproject_depth",
]


def depth_to_camera_points(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Points `[..., H, W, 3]` in camera axes from depth `[..., H, W]` along z; pixel (u, v) counts
    from 0."""
    height, width = depth.shape[-2:]
    fx, fy, cx, cy = (
        intrinsics[..., i, j, None, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2))
    )
    u = torch.arange(width, dtype=depth.dtype, device=depth.device)
    v = torch.arange(height, dtype=depth.dtype, device=depth.device)[:, None]
    return torch.stack(((u - cx) * depth / fx, (v - cy) * depth / fy, depth), dim=-1)


def unproject_depth(depth: Tensor, extrinsics: Tensor, intrinsics: Tensor) -> Tensor:
    """World points `[..., H, W, 3]` from depth `[..., H, W]`, extrinsics `[..., 3, 4]`, intrinsics
    `[..., 3, 3]`.

    The depth must carry the same leading axes as the cameras; a trailing axis of one is dropped, so
    that a prediction's depth fits as it is. Computed in the precision of the extrinsics.
    """
    if depth.dim() == extrinsics.dim() + 1 and depth.shape[-1] == 1:
        depth = depth[..., 0]
    points = depth_to_camera_points(depth, intrinsics).to(extrinsics.dtype)
    to_world = invert_extrinsics(extrinsics)
    rotation, centre = to_world[..., None, :3, :3], to_world[..., None, None, :3, 3]
    return points @ rotation.transpose(-1, -2) + centre


def pytorch3d_to_opencv(rotation: Tensor, translation: Tensor) -> Tensor:
    """PyTorch3D cameras as Co3D stores them -> OpenCV world-to-camera extrinsics [..., 3, 4].

    `rotation` [..., 3, 3] (R) acts on row vectors, axes x left and y up; `translation` [..., 3]
    (T). OpenCV has x right and y down and acts on column vectors: hence two sign flips and a
    transpose.
    """
    if rotation.shape[-2:] != (3, 3) or translation.shape != rotation.shape[:-1]:
        raise ValueError(
            "expected a rotation [..., 3, 3] and a translation [..., 3], "
            f"got {tuple(rotation.shape)} and {tuple(translation.shape)}"
        )
    flip = torch.tensor([-1.0, -1.0, 1.0], dtype=rotation.dtype, device=rotation.device)
    return torch.cat(
        ((rotation * flip).transpose(-1, -2), (translation * flip).unsqueeze(-1)), dim=-1
    )
