"""The group of similarities in logarithmic coordinates, for least squares over poses that also have
a scale.

A transformation is a matrix `[[s R, t], [0, 1]]` `[..., 4, 4]`, float64; its logarithm is `[...,
7]`: translation part, rotation vector (radians, shorter than pi), logarithm of the scale (Strasdat
et al., "Scale Drift-Aware Large Scale Monocular SLAM", 2010).
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.rotations import matrix_to_quaternion
from model.scene.similarity import Similarity


def to_matrix(similarity: Similarity) -> Tensor:
    """`[4, 4]`."""
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3], matrix[:3, 3] = similarity.scale * similarity.rotation, similarity.translation
    return matrix


def from_matrix(matrix: Tensor) -> Similarity:
    """The inverse of `to_matrix`; the rotation is made orthonormal again."""
    u, spread, vt = torch.linalg.svd(matrix[:3, :3])
    return Similarity(float(spread.mean()), u @ vt, matrix[:3, 3].clone())


def exponential(logarithm: Tensor) -> Tensor:
    """`[..., 7]` to `[..., 4, 4]`."""
    generator = logarithm.new_zeros(*logarithm.shape[:-1], 4, 4)
    generator[..., :3, :3] = _linear(logarithm[..., 3:])
    generator[..., :3, 3] = logarithm[..., :3]
    return torch.linalg.matrix_exp(generator)


def logarithm(matrix: Tensor) -> Tensor:
    """The inverse of `exponential`."""
    linear = matrix[..., :3, :3]
    scale = torch.linalg.det(linear) ** (1 / 3)
    x, y, z, w = matrix_to_quaternion(linear / scale[..., None, None]).unbind(-1)
    axis = torch.stack((x, y, z), dim=-1)
    sine = axis.norm(dim=-1)
    turn = torch.where(sine > 0, 2 * torch.atan2(sine, w) / sine.clamp(min=1e-300), 2.0)
    rest = torch.cat((turn[..., None] * axis, scale.log()[..., None]), dim=-1)

    # exp [[A, I], [0, 0]] = [[exp A, V], [0, I]], and V takes the translation part to the
    # translation
    block = matrix.new_zeros(*matrix.shape[:-2], 6, 6)
    block[..., :3, :3] = _linear(rest)
    block[..., :3, 3:] = torch.eye(3, dtype=matrix.dtype)
    growth = torch.linalg.matrix_exp(block)[..., :3, 3:]
    translation = torch.linalg.solve(growth, matrix[..., :3, 3:])[..., 0]
    return torch.cat((translation, rest), dim=-1)


def _linear(rest: Tensor) -> Tensor:
    """`[sigma I + cross(omega)]` `[..., 3, 3]` of rotation vector and log-scale `[..., 4]`."""
    x, y, z, sigma = rest.unbind(-1)
    rows = (sigma, -z, y, z, sigma, -x, -y, x, sigma)
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
