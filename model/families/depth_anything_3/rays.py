"""Cameras out of ray maps: slower than the camera decoder, and by the authors' table more accurate
(Depth Anything 3, section 3).

A ray's direction is that of its pixel in the world, its origin the camera's centre. Directions are
a homography of the picture plane, which is found among outliers; a rotation and the focal lengths
come out of it. The principal point is taken to be the image centre.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_DRAWS, _OF_EACH = 100, 8
_SURE = 0.3  # share of the rays, by confidence, that draws are made from
_INLIER = 0.2  # distance of a direction of length 1 from the predicted one
_MOST_INLIERS = 8000


def cameras_from_rays(
    rays: Tensor, confidence: Tensor, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """World-to-camera extrinsics `[N, 3, 4]` and intrinsics `[N, 3, 3]` (pixels) for images of
    (height, width), from rays `[N, h, w, 6]` (direction, origin) and confidence `[N, h, w]`.

    Draws are random, but the same at every call. A focal length that the rays leave open may be
    infinite or 0; rays that are not finite make a camera that is not.
    """
    rows, columns = rays.shape[1:3]
    x = (2 * torch.arange(columns, device=rays.device) + 1) / columns - 1
    y = (2 * torch.arange(rows, device=rays.device) + 1) / rows - 1
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1).double()
    plane = torch.cat((places, torch.ones_like(places[:, :1])), dim=-1)
    generator = torch.Generator().manual_seed(0)
    found = [
        _camera(plane, one.flatten(0, 1).double(), sure.flatten().double(), generator)
        for one, sure in zip(rays, confidence, strict=True)
    ]
    extrinsics, focal = (torch.stack(part) for part in zip(*found, strict=True))
    half = focal.new_tensor([image_size[1] / 2, image_size[0] / 2])
    intrinsics = torch.zeros_like(extrinsics[:, :, :3])
    intrinsics[:, :2, :2] = torch.diag_embed(focal * half)
    intrinsics[:, :2, 2] = half
    intrinsics[:, 2, 2] = 1
    return extrinsics.to(rays.dtype), intrinsics.to(rays.dtype)


def _camera(
    plane: Tensor, rays: Tensor, confidence: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """World-to-camera `[3, 4]`, and focal lengths in half sides, from rays `[P, 6]` at `plane` `[P,
    3]`."""
    if not (rays.isfinite().all() and confidence.isfinite().all()):
        return rays.new_full((3, 4), torch.nan), rays.new_full((2,), torch.nan)
    directions = F.normalize(rays[:, :3], dim=-1)
    best = _homography(plane, directions, confidence, generator)
    # with QL, best = rotation @ lower; the three columns are reversed for torch's QR
    flipped, upper = torch.linalg.qr(best.flip(1))
    rotation, lower = flipped.flip(1), upper.flip(0, 1)
    signs = 1 - 2 * lower.diagonal().signbit().to(lower.dtype)
    rotation, lower = rotation * signs, signs[:, None] * lower
    if torch.linalg.det(rotation) < 0:  # a homography has no sign
        rotation = -rotation
    diagonal = lower.diagonal()
    centre = (confidence[:, None] * rays[:, 3:]).sum(0) / confidence.sum()
    to_camera = rotation.T
    extrinsics = torch.cat((to_camera, -(to_camera @ centre)[:, None]), dim=1)
    return extrinsics, (diagonal[2] / diagonal[:2]).where(diagonal[:2] > 0, torch.inf)


def _homography(
    plane: Tensor, directions: Tensor, confidence: Tensor, generator: torch.Generator
) -> Tensor:
    """The matrix `[3, 3]` that most directions agree with, refined on those that do."""
    count = len(plane)
    sure = confidence.argsort(descending=True)[: max(_OF_EACH, round(_SURE * count))]
    most = torch.zeros(count, dtype=torch.bool, device=plane.device)
    for _ in range(_DRAWS):
        chosen = sure[torch.randperm(len(sure), generator=generator)[:_OF_EACH].to(sure.device)]
        agree = _agree(
            _fit(plane[chosen], directions[chosen], confidence[chosen]), plane, directions
        )
        if agree.sum() > most.sum():
            most = agree
    inliers = most.nonzero()[:, 0] if most.sum() >= _OF_EACH else sure
    if len(inliers) > _MOST_INLIERS:
        kept = torch.randperm(len(inliers), generator=generator)[:_MOST_INLIERS]
        inliers = inliers[kept.to(inliers.device)]
    fitted = _fit(plane[inliers], directions[inliers], confidence[inliers])
    # of the two signs the one that looks along the rays
    along = ((plane @ fitted.T) * directions).sum(-1).median()
    return fitted if along >= 0 else -fitted


def _fit(plane: Tensor, directions: Tensor, weight: Tensor) -> Tensor:
    """Direct linear transform: the matrix that brings `plane` `[P, 3]` closest to the lines along
    `directions`."""
    zero = torch.zeros_like(plane)
    a, b, c = (directions[:, i : i + 1] for i in range(3))
    # the cross product of a direction with what its place becomes
    rows = torch.cat(
        (
            torch.cat((zero, -c * plane, b * plane), dim=1),
            torch.cat((c * plane, zero, -a * plane), dim=1),
            torch.cat((-b * plane, a * plane, zero), dim=1),
        )
    )
    rows = rows * weight.sqrt().repeat(3)[:, None]
    return torch.linalg.eigh(rows.T @ rows).eigenvectors[:, 0].view(3, 3)


def _agree(matrix: Tensor, plane: Tensor, directions: Tensor) -> Tensor:
    """Which directions are nearly those of the matrix, either way."""
    found = F.normalize(plane @ matrix.T, dim=-1)
    apart = [(found - sign * directions).norm(dim=-1) for sign in (1, -1)]
    return torch.minimum(*apart) < _INLIER
