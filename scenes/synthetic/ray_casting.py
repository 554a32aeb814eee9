"""First hit of every pixel's ray with a room, its boxes and its spheres; any device, any batch of
frames.

Only operations that IEEE 754 rounds exactly are used (no fused multiply-add, no transcendental
function), so that a pixel's bits do not depend on which other frames share its batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

_STEEPEST = 1e6


def ray(rotation: Tensor, axis: int, x: Tensor, y: Tensor) -> Tensor:
    """Component `axis` of rotation @ (x, y, 1): `rotation` [N,3,3], `x` [N,1,W], `y` [N,H,1] ->
    [N,H,W]."""
    row = rotation[:, axis, :, None, None]
    return row[:, 0] * x + (row[:, 1] * y + row[:, 2])


def cast(
    rotations: Tensor,
    origins: Tensor,
    half_extents: Tensor,
    num_spheres: int,
    x: Tensor,
    y: Tensor,
    *,
    ellipsoids: bool = False,
) -> tuple[Tensor, Tensor]:
    """Depth and solid of the first hit of rays (x, y, 1).

    `rotations` [N,K,3,3] camera to solid, `origins` [N,K,3] camera centre in the solid's frame,
    `half_extents` [N,K,3]; solid 0 is the room seen from inside, the last `num_spheres` are
    spheres, or ellipsoids if so said. `x` [N,1,W] and `y` [N,H,1] are normalised image coordinates,
    so that the ray parameter is the depth along the optical axis. Returns depth float32 [N,H,W] and
    the index of the solid int32 [N,H,W].
    """
    depth = _room_exit(rotations[:, 0], origins[:, 0], half_extents[:, 0], x, y)
    solid = torch.zeros_like(depth, dtype=torch.int32)
    count = rotations.shape[1]
    inverse_square = (x * x + (y * y + 1.0)).reciprocal_()
    for k in range(1, count):
        if k < count - num_spheres:
            entry = _box_entry(rotations[:, k], origins[:, k], half_extents[:, k], x, y)
        elif ellipsoids:
            entry = _ellipsoid_entry(rotations[:, k], origins[:, k], half_extents[:, k], x, y)
        else:
            entry = _sphere_entry(
                rotations[:, k], origins[:, k], half_extents[:, k, 0], x, y, inverse_square
            )
        closer = entry < depth
        depth = torch.where(closer, entry, depth)
        solid = torch.where(closer, k, solid)
    return depth, solid


def _slab(
    rotation: Tensor, origin: Tensor, half: Tensor, axis: int, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Middle and half length of the ray's stretch between the two faces across `axis`.

    A ray along the faces has a component near zero of either sign: its reciprocal is clamped, or a
    tiny negative one would give a huge negative depth.
    """
    inverse = ray(rotation, axis, x, y).reciprocal_().clamp_(-_STEEPEST, _STEEPEST)
    middle = inverse * -origin[:, axis, None, None]
    return middle, inverse.abs_().mul_(half[:, axis, None, None])


def _room_exit(rotation: Tensor, origin: Tensor, half: Tensor, x: Tensor, y: Tensor) -> Tensor:
    exits = [
        middle.add_(reach)
        for middle, reach in (_slab(rotation, origin, half, a, x, y) for a in range(3))
    ]
    return torch.minimum(torch.minimum(exits[0], exits[1]), exits[2])


def _box_entry(rotation: Tensor, origin: Tensor, half: Tensor, x: Tensor, y: Tensor) -> Tensor:
    middle, reach = _slab(rotation, origin, half, 0, x, y)
    near, far = middle - reach, middle.add_(reach)
    for axis in (1, 2):
        middle, reach = _slab(rotation, origin, half, axis, x, y)
        near = torch.maximum(near, middle - reach)
        far = torch.minimum(far, middle.add_(reach))
    return torch.where((near < far) & (near > 0), near, torch.inf)


def _sphere_entry(
    rotation: Tensor, origin: Tensor, radius: Tensor, x: Tensor, y: Tensor, inverse_square: Tensor
) -> Tensor:
    """`inverse_square` [N,H,W] is 1 / (x^2 + y^2 + 1)."""
    o0, o1, o2 = origin[:, :, None, None].unbind(1)
    r0, r1, r2 = rotation[..., None].unbind(1)
    along = o0 * r0 + o1 * r1 + o2 * r2
    towards = (along[:, 0, None] * x + (along[:, 1, None] * y + along[:, 2, None])).mul_(
        inverse_square
    )
    excess = (o0 * o0 + o1 * o1 + o2 * o2) - (radius * radius)[:, None, None]
    squared = towards * towards - inverse_square * excess
    entry = -towards - squared.clamp_min(0.0).sqrt_()
    return torch.where((squared > 0) & (towards < 0), entry, torch.inf)


def _ellipsoid_entry(
    rotation: Tensor, origin: Tensor, half: Tensor, x: Tensor, y: Tensor
) -> Tensor:
    """The unit sphere in the frame in which each axis is measured in its half extent."""
    inverse = half.reciprocal()
    rotation, origin = rotation * inverse[:, :, None], origin * inverse
    ray_x, ray_y, ray_z = (ray(rotation, axis, x, y) for axis in range(3))
    o0, o1, o2 = origin[:, :, None, None].unbind(1)
    inverse_square = (ray_x * ray_x + (ray_y * ray_y + ray_z * ray_z)).reciprocal_()
    towards = (o0 * ray_x + (o1 * ray_y + o2 * ray_z)) * inverse_square
    squared = towards * towards - inverse_square * (o0 * o0 + (o1 * o1 + o2 * o2) - 1.0)
    entry = -towards - squared.clamp_min(0.0).sqrt_()
    return torch.where((squared > 0) & (towards < 0), entry, torch.inf)
