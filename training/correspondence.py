"""Which patch of another frame sees the same world point: supervision for matching losses, from
depth and cameras."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.scene.geometry import unproject_depth
from scenes.scene import SceneBatch


@dataclass(frozen=True)
class PatchPoints:
    """Ground truth at the centre pixel of every patch; N patches row-major."""

    world: Tensor  # [B, S, N, 3]
    depth: Tensor  # [B, S, N]
    valid: Tensor  # [B, S, N] bool: has ground truth


@dataclass(frozen=True)
class PatchMatches:
    """For every patch of a frame, the patch of the other frame whose image of the world point it
    contains."""

    index: Tensor  # [B, T, N] long, row-major patch index; 0 where invisible
    visible: Tensor  # [B, T, N] bool


def patch_points(batch: SceneBatch, patch_size: int) -> PatchPoints:
    """World points and depths at pixel (patch_size // 2) of every patch."""
    centre = patch_size // 2
    depth = batch.depth[..., centre::patch_size, centre::patch_size]
    # The same cameras on the grid of patch centres: u = centre + patch_size * u'.
    intrinsics = batch.intrinsics.clone()
    intrinsics[..., :2, 2] -= centre
    intrinsics[..., :2, :] /= patch_size
    world = unproject_depth(depth, batch.extrinsics, intrinsics)
    return PatchPoints(world.flatten(2, 3), depth.flatten(2), depth.flatten(2) > 0)


def patch_matches(
    points: PatchPoints,
    batch: SceneBatch,
    sources: Tensor,
    targets: Tensor,
    patch_size: int,
    tolerance: float = 0.05,
) -> PatchMatches:
    """Looks the patches of frames `sources` `[T]` up in frames `targets` `[T]` (indices into the
    frames of a scene).

    A point is visible if it has ground truth, lies in front of the target camera and inside its
    image, and the target depth at the nearest pixel differs from its own by less than `tolerance`,
    relatively.
    """
    height, width = batch.depth.shape[-2:]
    extrinsics, intrinsics = batch.extrinsics[:, targets], batch.intrinsics[:, targets]
    # [B, T, N, 3]
    seen = points.world[:, sources] @ extrinsics[..., :3].mT + extrinsics[..., None, :, 3]
    z = seen[..., 2]
    front = z > 1e-4
    pixels = (seen @ intrinsics.mT)[..., :2] / z.clamp(min=1e-4)[..., None]
    column, row = pixels.round().unbind(-1)
    inside = front & (column >= 0) & (column <= width - 1) & (row >= 0) & (row <= height - 1)
    column = torch.where(inside, column, 0).long()
    row = torch.where(inside, row, 0).long()
    surface = batch.depth[:, targets].flatten(2).gather(2, row * width + column)
    visible = (
        inside & points.valid[:, sources] & (surface > 0) & ((surface - z).abs() < tolerance * z)
    )
    index = (row // patch_size) * (width // patch_size) + column // patch_size
    return PatchMatches(torch.where(visible, index, 0), visible)
