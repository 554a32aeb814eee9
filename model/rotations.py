"""Rotation matrices, quaternions (x, y, z, w) and rigid motions."""

from __future__ import annotations

import torch
from torch import Tensor


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices `[..., 3, 3]` from quaternions `[..., 4]` (x, y, z, w) of any length but
    zero."""
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
    wx, wy, wz = (
        m[..., 2, 1] - m[..., 1, 2],
        m[..., 0, 2] - m[..., 2, 0],
        m[..., 1, 0] - m[..., 0, 1],
    )
    xy, xz, yz = (
        m[..., 1, 0] + m[..., 0, 1],
        m[..., 0, 2] + m[..., 2, 0],
        m[..., 1, 2] + m[..., 2, 1],
    )
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
    w, x, y = (
        turn[..., 2, 1] - turn[..., 1, 2],
        turn[..., 0, 2] - turn[..., 2, 0],
        turn[..., 1, 0] - turn[..., 0, 1],
    )
    sine = torch.stack((w, x, y), dim=-1).norm(dim=-1)
    return torch.rad2deg(torch.atan2(sine, turn.diagonal(dim1=-2, dim2=-1).sum(-1) - 1))


def invert_extrinsics(extrinsics: Tensor) -> Tensor:
    """Camera-to-world `[..., 4, 4]` from world-to-camera `[..., 3, 4]` or `[..., 4, 4]`, in closed
    form."""
    rotation = extrinsics[..., :3, :3].transpose(-1, -2)
    translation = -(rotation @ extrinsics[..., :3, 3:])
    inverse = torch.eye(4, dtype=extrinsics.dtype, device=extrinsics.device).repeat(
        *extrinsics.shape[:-2], 1, 1
    )
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3:] = translation
    return inverse
