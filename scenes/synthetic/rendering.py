"""Pixels and depths of drawn scenes: ray casting, textures, light, grain, sky; any device, any
batch of frames."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from scenes.synthetic.ray_casting import cast
from scenes.synthetic.relief import Relief, Surface, relief_entry
from scenes.synthetic.textures import albedo

NOISE_SAMPLES = 1 << 20
"""Length of the sequence that a frame's grain is a stretch of."""
_FLOOR = 3  # the room's face across +y
# metres; longer than any room: the ground beyond has no depth, or it would set the scene's scale
_FARTHEST = 15.0


class Frames(NamedTuple):
    """What the renderer needs of N frames with K solids each: float32 tensors.

    `extrinsics` [N,3,4], `focal` [N] pixels, `rotations` [N,K,3,3] camera to solid, `origins`
    [N,K,3] camera centre in the solid's frame, `half_extents` [N,K,3], `to_light` [N,K,3] in the
    solid's frame, `ambient` and `key` [N,3] with the frame's gain, `textures` [N,K,6,fields],
    `noise` [N] amplitude, `noise_start` [N]. Of free scenes only, else empty: `relief` [N,2]
    amplitude (0: none) and period, `heights` [N,GRID,GRID], `sky` [N,2,3] colours at the horizon
    and at the zenith, negative where there is a ceiling.
    """

    extrinsics: Tensor
    focal: Tensor
    rotations: Tensor
    origins: Tensor
    half_extents: Tensor
    to_light: Tensor
    ambient: Tensor
    key: Tensor
    textures: Tensor
    noise: Tensor
    noise_start: Tensor
    relief: Tensor
    heights: Tensor
    sky: Tensor


def render_frames(
    view: Frames, num_spheres: int, free: bool, images: Tensor, depth: Tensor
) -> None:
    """Fill `images` [N,3,H,W] and `depth` [N,H,W]. `free`: the round solids are ellipsoids, the
    last is a relief."""
    frames, _, height, width = images.shape
    device = images.device
    focal = view.focal[:, None, None]
    x = (torch.arange(width, device=device, dtype=torch.float32) - width / 2) / focal
    y = (torch.arange(height, device=device, dtype=torch.float32)[:, None] - height / 2) / focal
    solids = view.rotations.shape[1]
    cast_solids = solids - 1 if free else solids
    rotations, origins, half_extents = (
        value[:, :cast_solids] for value in (view.rotations, view.origins, view.half_extents)
    )
    distance, solid = cast(rotations, origins, half_extents, num_spheres, x, y, ellipsoids=free)
    carved = _carve(view, x, y, distance, solid) if free else None
    depth.copy_(distance)

    index = solid + torch.arange(frames, device=device, dtype=torch.int32)[:, None, None] * solids
    is_round = (solid >= cast_solids - num_spheres) & (solid < cast_solids)
    local = torch.cat(
        [view.rotations.flatten(2), view.origins, view.half_extents.reciprocal(), view.to_light],
        dim=-1,
    )
    rows = _per_pixel(local.flatten(0, 1), index)
    rotation, origin, inverse_half, to_light = rows[:9], rows[9:12], rows[12:15], rows[15:18]
    ray_x, ray_y, ray_z = (
        rotation[3 * i] * x + (rotation[3 * i + 1] * y + rotation[3 * i + 2]) for i in range(3)
    )
    px, py, pz = (o + d * distance for o, d in zip(origin, (ray_x, ray_y, ray_z), strict=True))

    # the face across the axis on which the point is nearest to, or farthest out of, the solid's
    # hull
    qx, qy, qz = px * inverse_half[0], py * inverse_half[1], pz * inverse_half[2]
    ax, ay, az = qx.abs(), qy.abs(), qz.abs()
    on_x = (ax >= ay) & (ax >= az)
    on_y = (ay >= az) & ~on_x
    along = torch.where(on_x, qx, torch.where(on_y, qy, qz))
    face = torch.where(on_x, 0, torch.where(on_y, 2, 4)).to(torch.int32) + (along > 0)
    s, t = torch.where(on_x, pz, px), torch.where(on_y, pz, py)
    ray_s, ray_t = torch.where(on_x, ray_z, ray_x), torch.where(on_y, ray_z, ray_y)

    # a sphere's normal is q itself; a flat face's is the unit vector of its axis, inwards for the
    # room
    nx, ny, nz = qx, qy, qz
    if free:
        nx, ny, nz, is_round = _curved_normals(
            carved, (qx, qy, qz), (px, py), inverse_half, is_round
        )
    normal_ray = torch.where(on_x, ray_x, torch.where(on_y, ray_y, ray_z))
    normal_ray = torch.where(is_round, nx * ray_x + ny * ray_y + nz * ray_z, normal_ray)
    flat_light = torch.where(on_x, to_light[0], torch.where(on_y, to_light[1], to_light[2]))
    outwards = torch.where((along > 0) ^ (solid == 0), flat_light, -flat_light)
    light = (
        torch.where(is_round, nx * to_light[0] + ny * to_light[1] + nz * to_light[2], outwards)
        * 0.5
        + 0.5
    )

    inverse_normal = normal_ray.abs().clamp_min_(0.02).reciprocal_()
    surfaces = _per_pixel(view.textures.flatten(0, 2), index * 6 + face)
    colours = albedo(
        surfaces, s, t, ray_s * inverse_normal, ray_t * inverse_normal, distance / focal
    )
    grain = _grain(view.noise_start, images.shape) * view.noise[:, None, None, None]
    for channel, colour in enumerate(colours):
        ambient, key = (value[:, channel, None, None] for value in (view.ambient, view.key))
        images[:, channel] = (
            (colour * (ambient + key * light)).add_(grain[:, channel]).clamp_(0.0, 1.0)
        )
    if free:
        _paint_sky(
            view, (solid == 0) & (face != _FLOOR), (ray_x, ray_y, ray_z), grain, images, depth
        )


class _Carved(NamedTuple):
    """The frames [M] of a batch that have a relief, its surface, and where it is seen [M,H,W]."""

    frames: Tensor
    surface: Surface
    visible: Tensor


def _carve(view: Frames, x: Tensor, y: Tensor, distance: Tensor, solid: Tensor) -> _Carved | None:
    """Lets reliefs hide what lies behind them: changes `distance` and `solid` [N,H,W] in place."""
    frames = torch.nonzero(view.relief[:, 0] > 0)[:, 0]
    if len(frames) == 0:
        return None
    surface = Surface(Relief(view.heights[frames], view.relief[frames, 0], view.relief[frames, 1]))
    entry = relief_entry(
        surface, view.rotations[frames, -1], view.origins[frames, -1], x[frames], y[frames]
    )
    visible = entry < distance[frames]
    distance[frames] = torch.where(visible, entry, distance[frames])
    solid[frames] = torch.where(visible, view.rotations.shape[1] - 1, solid[frames])
    return _Carved(frames, surface, visible)


def _curved_normals(
    carved: _Carved | None,
    place: tuple[Tensor, Tensor, Tensor],
    plane: tuple[Tensor, Tensor],
    inverse_half: Tensor,
    is_round: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unit normals [N,H,W] in the solid's frame of ellipsoids and reliefs, and where they hold.

    `place`: the point in half extents; `plane`: its x and y in metres.
    """
    nx, ny, nz = (q * inverse for q, inverse in zip(place, inverse_half, strict=True))
    if carved is not None:
        px, py = (value[carved.frames] for value in plane)
        slope_x, slope_y = carved.surface.slope(px, py)
        nx[carved.frames] = torch.where(carved.visible, -slope_x, nx[carved.frames])
        ny[carved.frames] = torch.where(carved.visible, -slope_y, ny[carved.frames])
        nz[carved.frames] = torch.where(carved.visible, 1.0, nz[carved.frames])
        is_round = is_round.clone()
        is_round[carved.frames] |= carved.visible
    length = (nx * nx + (ny * ny + nz * nz)).sqrt_().clamp_min_(1e-6)
    return nx / length, ny / length, nz / length, is_round


def _paint_sky(
    view: Frames,
    open_air: Tensor,
    heading: tuple[Tensor, Tensor, Tensor],
    grain: Tensor,
    images: Tensor,
    depth: Tensor,
) -> None:
    """Sky without depth where `open_air` [N,H,W] and the scene has one; `heading`: the ray in the
    room's axes."""
    shown = open_air & (view.sky[:, 0, 0] >= 0)[:, None, None]
    if not bool(shown.any()):
        return
    ray_x, ray_y, ray_z = heading
    length = (ray_x * ray_x + (ray_y * ray_y + ray_z * ray_z)).sqrt_()
    up = (-ray_y / length).clamp_(0.0, 1.0)
    for channel in range(3):
        horizon, zenith = (view.sky[:, level, channel, None, None] for level in range(2))
        colour = (horizon + (zenith - horizon) * up + grain[:, channel]).clamp_(0.0, 1.0)
        images[:, channel] = torch.where(shown, colour, images[:, channel])
    depth.masked_fill_(shown | (depth > _FARTHEST), 0.0)


def _per_pixel(rows: Tensor, index: Tensor) -> Tensor:
    """Columns of `rows` [M,F] for every pixel of `index` [N,H,W] -> [F,N,H,W]."""
    return rows.t().contiguous().index_select(1, index.flatten()).view(-1, *index.shape)


def _grain(start: Tensor, shape: torch.Size) -> Tensor:
    """Unit normal noise of `shape` [N,3,H,W]: a stretch of one fixed sequence, from `start` [N] on.

    Drawing it anew would cost as much as the rest of the picture and differ between devices.
    """
    positions = torch.arange(shape[1:].numel(), device=start.device, dtype=torch.int32)
    samples = (positions + start.int()[:, None]) & (NOISE_SAMPLES - 1)
    return _noise_samples(start.device).index_select(0, samples.flatten()).view(shape)


@lru_cache(maxsize=8)
def _noise_samples(device: torch.device) -> Tensor:
    """Standard normal numbers [NOISE_SAMPLES], the same on every device."""
    return torch.randn(NOISE_SAMPLES, generator=torch.Generator().manual_seed(20_240_518)).to(
        device
    )
