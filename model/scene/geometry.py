"""Cameras and points. Extrinsics are world-to-camera `[R | t]` with OpenCV axes (x right, y down, z forward).

Pose encoding "absT_quaR_FoV" of VGGT, 9 numbers: translation, quaternion (x, y, z, w), vertical then horizontal field
of view in radians. The principal point is the image centre.
"""

from __future__ import annotations

import torch
from torch import Tensor


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices `[..., 3, 3]` from quaternions `[..., 4]` (x, y, z, w) of any length but zero."""
    x, y, z, w = quaternion.unbind(-1)
    s = 2 / quaternion.square().sum(-1)
    rows = (
        (1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)),
        (s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)),
        (s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Quaternions `[..., 4]` (x, y, z, w) with w >= 0 from rotation matrices `[..., 3, 3]`.

    Divides by the largest component, so that half turns are as exact as any other rotation.
    """
    m = matrix
    trace_terms = torch.stack(
        (
            1 + m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2],
            1 + m[..., 0, 0] - m[..., 1, 1] - m[..., 2, 2],
            1 - m[..., 0, 0] + m[..., 1, 1] - m[..., 2, 2],
            1 - m[..., 0, 0] - m[..., 1, 1] + m[..., 2, 2],
        ),
        dim=-1,
    )
    doubled = trace_terms.clamp(min=0).sqrt()  # 2|w|, 2|x|, 2|y|, 2|z|
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    squares = doubled.square()
    candidates = (
        torch.stack(  # row r: (w, x, y, z) times twice the r-th doubled component
            (
                torch.stack((squares[..., 0], wx, wy, wz), dim=-1),
                torch.stack((wx, squares[..., 1], xy, xz), dim=-1),
                torch.stack((wy, xy, squares[..., 2], yz), dim=-1),
                torch.stack((wz, xz, yz, squares[..., 3]), dim=-1),
            ),
            dim=-2,
        )
        / (2 * doubled.clamp(min=0.1))[..., None]
    )
    largest = doubled.argmax(dim=-1)[..., None, None].expand(*doubled.shape[:-1], 1, 4)
    w, x, y, z = candidates.gather(-2, largest).squeeze(-2).unbind(-1)
    quaternion = torch.stack((x, y, z, w), dim=-1)
    return torch.where(w[..., None] < 0, -quaternion, quaternion)


def rotation_angle(a: Tensor, b: Tensor) -> Tensor:
    """Angle in degrees `[...]`, float64 in [0, 180], between rotations `[..., 3, 3]`.

    Exact near 0 and near 180 degrees, where the arc cosine of the trace loses half of its digits.
    """
    turn = a.double() @ b.double().mT
    w, x, y = turn[..., 2, 1] - turn[..., 1, 2], turn[..., 0, 2] - turn[..., 2, 0], turn[..., 1, 0] - turn[..., 0, 1]
    sine = torch.stack((w, x, y), dim=-1).norm(dim=-1)
    return torch.rad2deg(torch.atan2(sine, turn.diagonal(dim1=-2, dim2=-1).sum(-1) - 1))


def pose_encoding_to_cameras(pose_enc: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Extrinsics `[..., 3, 4]` and intrinsics `[..., 3, 3]` (pixels) for images of (height, width).

    A field of view of 0 gives an infinite focal length.
    """
    height, width = image_size
    translation, quaternion, fov_h, fov_w = pose_enc[..., :3], pose_enc[..., 3:7], pose_enc[..., 7], pose_enc[..., 8]
    extrinsics = torch.cat((quaternion_to_matrix(quaternion), translation[..., None]), dim=-1)
    intrinsics = pose_enc.new_zeros(*pose_enc.shape[:-1], 3, 3)
    intrinsics[..., 0, 0] = (width / 2) / torch.tan(fov_w / 2)
    intrinsics[..., 1, 1] = (height / 2) / torch.tan(fov_h / 2)
    intrinsics[..., 0, 2] = width / 2
    intrinsics[..., 1, 2] = height / 2
    intrinsics[..., 2, 2] = 1
    return extrinsics, intrinsics


def cameras_to_pose_encoding(extrinsics: Tensor, intrinsics: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Pose encoding `[..., 9]`, float32; the inverse of `pose_encoding_to_cameras`. Ignores the principal point."""
    height, width = image_size
    fov_h = 2 * torch.atan((height / 2) / intrinsics[..., 1, 1])
    fov_w = 2 * torch.atan((width / 2) / intrinsics[..., 0, 0])
    quaternion = matrix_to_quaternion(extrinsics[..., :3, :3])
    fields = torch.stack((fov_h, fov_w), dim=-1)
    return torch.cat((extrinsics[..., :3, 3], quaternion, fields), dim=-1).float()


def invert_extrinsics(extrinsics: Tensor) -> Tensor:
    """Camera-to-world `[..., 4, 4]` from world-to-camera `[..., 3, 4]` or `[..., 4, 4]`, in closed form."""
    rotation = extrinsics[..., :3, :3].transpose(-1, -2)
    translation = -(rotation @ extrinsics[..., :3, 3:])
    inverse = torch.eye(4, dtype=extrinsics.dtype, device=extrinsics.device).repeat(*extrinsics.shape[:-2], 1, 1)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3:] = translation
    return inverse


def depth_to_camera_points(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Points `[..., H, W, 3]` in camera axes from depth `[..., H, W]` along z; pixel (u, v) counts from 0."""
    height, width = depth.shape[-2:]
    fx, fy, cx, cy = (intrinsics[..., i, j, None, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    u = torch.arange(width, dtype=depth.dtype, device=depth.device)
    v = torch.arange(height, dtype=depth.dtype, device=depth.device)[:, None]
    return torch.stack(((u - cx) * depth / fx, (v - cy) * depth / fy, depth), dim=-1)


def unproject_depth(depth: Tensor, extrinsics: Tensor, intrinsics: Tensor) -> Tensor:
    """World points `[..., H, W, 3]` from depth `[..., H, W]`, extrinsics `[..., 3, 4]`, intrinsics `[..., 3, 3]`.

    The depth must carry the same leading axes as the cameras; a trailing axis of one is dropped, so that a prediction's
    depth fits as it is. Computed in the precision of the extrinsics.
    """
    if depth.dim() == extrinsics.dim() + 1 and depth.shape[-1] == 1:
        depth = depth[..., 0]
    points = depth_to_camera_points(depth, intrinsics).to(extrinsics.dtype)
    to_world = invert_extrinsics(extrinsics)
    rotation, centre = to_world[..., None, :3, :3], to_world[..., None, None, :3, 3]
    return points @ rotation.transpose(-1, -2) + centre


def pytorch3d_to_opencv(rotation: Tensor, translation: Tensor) -> Tensor:
    """PyTorch3D cameras as Co3D stores them -> OpenCV world-to-camera extrinsics [..., 3, 4].

    `rotation` [..., 3, 3] (R) acts on row vectors, axes x left and y up; `translation` [..., 3] (T). OpenCV has x right
    and y down and acts on column vectors: hence two sign flips and a transpose.
    """
    if rotation.shape[-2:] != (3, 3) or translation.shape != rotation.shape[:-1]:
        raise ValueError(
            "expected a rotation [..., 3, 3] and a translation [..., 3], "
            f"got {tuple(rotation.shape)} and {tuple(translation.shape)}"
        )
    flip = torch.tensor([-1.0, -1.0, 1.0], dtype=rotation.dtype, device=rotation.device)
    return torch.cat(((rotation * flip).transpose(-1, -2), (translation * flip).unsqueeze(-1)), dim=-1)
