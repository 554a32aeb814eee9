"""Procedural multi-view scenes with exact cameras and depth: textured rooms, reliefs and fronts, by ray casting.

A scene is a function of (split, seed, number of views, size, distribution). The split enters the entropy of every
draw, so splits cannot share a scene. Lengths are metres; pixel (u, v) looks along ((u - cx) / f, (v - cy) / f, 1)
with the principal point at (W / 2, H / 2), as `model.scene.geometry.unproject_depth` has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scenes.scene import Scene, SceneBatch
from scenes.synthetic.distribution import STANDARD, SceneDistribution
from scenes.synthetic.free_scene import FreeScene, draw_free_scene, most_boxes, most_rounds
from scenes.synthetic.motion import CameraPath, draw_path
from scenes.synthetic.ray_casting import cast
from scenes.synthetic.relief import GRID, Relief, Surface, relief_entry
from scenes.synthetic.room import FAR_BELOW, Room, draw_room, draw_room_size
from scenes.synthetic.textures import albedo, draw_textures, put_tiles

Array = NDArray[np.float64]

__all__ = ["SPLITS", "SceneDistribution", "SyntheticScenes", "render_batch"]

SPLITS = ("train", "calibration", "test")

_CPU_PIXELS = 1 << 17
_ACCELERATOR_PIXELS = 1 << 23
_NOISE_SAMPLES = 1 << 20
_FLOOR = 3  # the room's face across +y
_FARTHEST = 15.0  # metres; longer than any room: the ground beyond has no depth, or it would set the scene's scale


class _Frames(NamedTuple):
    """What the renderer needs of N frames with K solids each.

    `extrinsics` [N,3,4], `focal` [N] pixels, `rotations` [N,K,3,3] camera to solid, `origins` [N,K,3] camera centre in
    the solid's frame, `half_extents` [N,K,3], `to_light` [N,K,3] in the solid's frame, `ambient` and `key` [N,3] with
    the frame's gain, `textures` [N,K,6,fields], `noise` [N] amplitude, `noise_start` [N]. Of free scenes only, else
    empty: `relief` [N,2] amplitude (0: none) and period, `heights` [N,GRID,GRID], `sky` [N,2,3] colours at the horizon
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


def render_batch(
    seeds: Sequence[int],
    *,
    split: str,
    num_views: int,
    height: int,
    width: int,
    device: torch.device | str = "cpu",
    distribution: SceneDistribution = STANDARD,
) -> SceneBatch:
    """Render one scene per seed: B = len(seeds), S = num_views, world = the room (y down, floor at 0), metres.

    The bits of a scene do not depend on the other seeds of the call. Parameters are drawn on the CPU, pixels on
    `device`. Raises ValueError for an unknown split, a negative seed, fewer than 1 view or an empty image.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
    if not seeds or min(seeds) < 0:
        raise ValueError(f"seeds are {list(seeds)}; expected at least one, none negative")
    if min(num_views, height, width) < 1:
        raise ValueError(f"num_views {num_views}, height {height} and width {width} must be at least 1")
    device = torch.device(device)
    scenes = [_draw(split, seed, num_views, max(height, width), distribution) for seed in seeds]
    stacked = [torch.from_numpy(np.concatenate(values).astype(np.float32)) for values in zip(*scenes, strict=True)]
    frames = _Frames(*(values.to(device) for values in stacked))
    budget = _CPU_PIXELS if device.type == "cpu" else _ACCELERATOR_PIXELS
    step = max(1, budget // (height * width))
    total = len(seeds) * num_views
    images = torch.empty(total, 3, height, width, device=device)
    depth = torch.empty(total, height, width, device=device)
    free = distribution.free_share > 0
    num_spheres = most_rounds(distribution) if free else distribution.spheres[1]
    with torch.no_grad():
        for start in range(0, total, step):
            stop = min(start + step, total)
            chunk = _Frames(*(values[start:stop] for values in frames))
            _render(chunk, num_spheres, free, images[start:stop], depth[start:stop])
    intrinsics = torch.zeros(total, 3, 3, device=device)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = frames.focal
    intrinsics[:, 0, 2], intrinsics[:, 1, 2], intrinsics[:, 2, 2] = width / 2, height / 2, 1.0
    leading = (len(seeds), num_views)
    return SceneBatch(
        images=images.view(*leading, 3, height, width),
        extrinsics=frames.extrinsics.view(*leading, 3, 4),
        intrinsics=intrinsics.view(*leading, 3, 3),
        depth=depth.view(*leading, height, width),
    )


class SyntheticScenes(Sequence[Scene]):
    """`count` scenes of one split, rendered when asked for; scene i has seed `seed` + i."""

    def __init__(
        self,
        split: str,
        count: int,
        num_views: int,
        height: int,
        width: int,
        seed: int = 0,
        distribution: SceneDistribution = STANDARD,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
        if count < 1 or seed < 0:
            raise ValueError(f"count is {count} and seed {seed}; expected at least one scene and no negative seed")
        self.split, self.num_views = split, num_views
        self.height, self.width = height, width
        self.seed, self.distribution = seed, distribution
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Scene: ...
    @overload
    def __getitem__(self, index: slice) -> list[Scene]: ...
    def __getitem__(self, index: int | slice) -> Scene | list[Scene]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(f"scene {index} of {self._count}")
        seed = self.seed + index % self._count
        batch = render_batch(
            [seed],
            split=self.split,
            num_views=self.num_views,
            height=self.height,
            width=self.width,
            distribution=self.distribution,
        )
        return batch.scene(0, name=f"{self.split}-{seed:06d}", category="room", split=self.split)


class _Content(NamedTuple):
    """What a scene shows: cameras and solids, their textures [K,6,fields], the lens in radians, relief and sky."""

    path: CameraPath
    room: Room
    textures: Array
    field_of_view: float
    relief: Array
    heights: Array
    sky: Array


def _draw(
    split: str, seed: int, num_views: int, longer_side: int, distribution: SceneDistribution
) -> tuple[Array, ...]:
    """One scene's frames, in the order and shapes of `_Frames`."""
    entropy = [SPLITS.index(split), seed]
    others = np.random.default_rng(np.random.SeedSequence([*entropy, 1]))
    if others.random() < distribution.free_share:
        rng = others
        content = _free_content(rng, distribution, num_views)
    else:
        rng = np.random.default_rng(np.random.SeedSequence(entropy))
        content = _room_content(rng, others, distribution, num_views)
    path, room = content.path, content.room
    gain = rng.uniform(*distribution.gain, size=(num_views, 1)) * rng.uniform(0.97, 1.03, (num_views, 3))
    noise = rng.uniform(*distribution.pixel_noise)
    # below 2^20, so exact in float32
    noise_start = rng.integers(_NOISE_SAMPLES, size=num_views).astype(np.float64)

    def per_frame(value: Array | float) -> Array:
        return np.broadcast_to(value, (num_views, *np.shape(value)))

    return (
        np.concatenate([path.rotations, -(path.rotations @ path.centres[:, :, None])], axis=-1),
        per_frame(longer_side / 2 / np.tan(content.field_of_view / 2)),
        room.rotations @ path.rotations.transpose(0, 2, 1)[:, None],
        (room.rotations @ (path.centres[:, None] - room.centres)[..., None])[..., 0],
        per_frame(room.half_extents),
        per_frame(room.rotations @ room.light.to_light),
        gain * room.light.ambient,
        gain * room.light.key,
        per_frame(content.textures),
        per_frame(noise),
        noise_start,
        per_frame(content.relief),
        per_frame(content.heights),
        gain[:, None] * per_frame(content.sky),
    )


def _room_content(
    rng: np.random.Generator, others: np.random.Generator, distribution: SceneDistribution, num_views: int
) -> _Content:
    """A standard room. What only newer distributions need is drawn from `others`."""
    half = draw_room_size(rng, distribution)
    path = draw_path(rng, distribution, num_views, half)
    room = draw_room(rng, distribution, half, path.centres, path.focus)
    textures = draw_textures(rng, len(room.centres))
    field_of_view = np.deg2rad(rng.uniform(*distribution.field_of_view))
    if distribution.natural_textures > 0:
        put_tiles(others, textures, distribution.natural_textures)
    if distribution.free_share == 0:
        return _Content(path, room, textures, field_of_view, np.zeros(2), np.zeros((0, 0)), np.zeros((0, 3)))
    room, textures = _pad(room, textures, distribution)
    no_sky = np.full((2, 3), -1.0)
    return _Content(path, room, textures, field_of_view, np.zeros(2), np.zeros((GRID, GRID)), no_sky)


def _free_content(rng: np.random.Generator, distribution: SceneDistribution, num_views: int) -> _Content:
    scene: FreeScene = draw_free_scene(rng, distribution, num_views)
    textures = draw_textures(rng, len(scene.room.centres), scene.large)
    put_tiles(rng, textures, distribution.free.natural_textures)
    horizon = rng.uniform(0.6, 0.95) + rng.uniform(-0.05, 0.05, 3)
    zenith = horizon * rng.uniform(0.5, 1.0) * np.array([rng.uniform(0.6, 1.0), rng.uniform(0.8, 1.0), 1.0])
    sky = np.stack([horizon, zenith]) if scene.sky else np.full((2, 3), -1.0)
    return _Content(
        scene.path,
        scene.room,
        textures,
        np.deg2rad(rng.uniform(*distribution.free.field_of_view)),
        np.array([scene.amplitude, scene.period]),
        scene.heights,
        sky,
    )


def _pad(room: Room, textures: Array, distribution: SceneDistribution) -> tuple[Room, Array]:
    """The same room with as many solids as free scenes have; those in excess lie out of sight."""
    boxes, rounds = most_boxes(distribution), most_rounds(distribution)
    own = np.r_[0 : distribution.boxes[1] + 1, boxes + 1 : boxes + 1 + distribution.spheres[1]]
    count = 1 + boxes + rounds + 1

    def spread(values: Array, fill: Array) -> Array:
        padded = np.broadcast_to(fill, (count, *values.shape[1:])).copy()
        padded[own] = values
        return padded

    padded = Room(
        centres=spread(room.centres, np.array([0.0, FAR_BELOW, 0.0])),
        rotations=spread(room.rotations, np.eye(3)),
        half_extents=spread(room.half_extents, np.full(3, 0.1)),
        num_spheres=rounds,
        light=room.light,
    )
    return padded, spread(textures, textures[0])


def _render(view: _Frames, num_spheres: int, free: bool, images: Tensor, depth: Tensor) -> None:
    """Fill `images` [N,3,H,W] and `depth` [N,H,W]. `free`: the round solids are ellipsoids, the last is a relief."""
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
    local = torch.cat([view.rotations.flatten(2), view.origins, view.half_extents.reciprocal(), view.to_light], dim=-1)
    rows = _per_pixel(local.flatten(0, 1), index)
    rotation, origin, inverse_half, to_light = rows[:9], rows[9:12], rows[12:15], rows[15:18]
    ray_x, ray_y, ray_z = (rotation[3 * i] * x + (rotation[3 * i + 1] * y + rotation[3 * i + 2]) for i in range(3))
    px, py, pz = (o + d * distance for o, d in zip(origin, (ray_x, ray_y, ray_z), strict=True))

    # the face across the axis on which the point is nearest to, or farthest out of, the solid's hull
    qx, qy, qz = px * inverse_half[0], py * inverse_half[1], pz * inverse_half[2]
    ax, ay, az = qx.abs(), qy.abs(), qz.abs()
    on_x = (ax >= ay) & (ax >= az)
    on_y = (ay >= az) & ~on_x
    along = torch.where(on_x, qx, torch.where(on_y, qy, qz))
    face = torch.where(on_x, 0, torch.where(on_y, 2, 4)).to(torch.int32) + (along > 0)
    s, t = torch.where(on_x, pz, px), torch.where(on_y, pz, py)
    ray_s, ray_t = torch.where(on_x, ray_z, ray_x), torch.where(on_y, ray_z, ray_y)

    # a sphere's normal is q itself; a flat face's is the unit vector of its axis, inwards for the room
    nx, ny, nz = qx, qy, qz
    if free:
        nx, ny, nz, is_round = _curved_normals(carved, (qx, qy, qz), (px, py), inverse_half, is_round)
    normal_ray = torch.where(on_x, ray_x, torch.where(on_y, ray_y, ray_z))
    normal_ray = torch.where(is_round, nx * ray_x + ny * ray_y + nz * ray_z, normal_ray)
    flat_light = torch.where(on_x, to_light[0], torch.where(on_y, to_light[1], to_light[2]))
    outwards = torch.where((along > 0) ^ (solid == 0), flat_light, -flat_light)
    light = torch.where(is_round, nx * to_light[0] + ny * to_light[1] + nz * to_light[2], outwards) * 0.5 + 0.5

    inverse_normal = normal_ray.abs().clamp_min_(0.02).reciprocal_()
    surfaces = _per_pixel(view.textures.flatten(0, 2), index * 6 + face)
    colours = albedo(surfaces, s, t, ray_s * inverse_normal, ray_t * inverse_normal, distance / focal)
    grain = _grain(view.noise_start, images.shape) * view.noise[:, None, None, None]
    for channel, colour in enumerate(colours):
        ambient, key = (value[:, channel, None, None] for value in (view.ambient, view.key))
        images[:, channel] = (colour * (ambient + key * light)).add_(grain[:, channel]).clamp_(0.0, 1.0)
    if free:
        _paint_sky(view, (solid == 0) & (face != _FLOOR), (ray_x, ray_y, ray_z), grain, images, depth)


class _Carved(NamedTuple):
    """The frames [M] of a batch that have a relief, its surface, and where it is seen [M,H,W]."""

    frames: Tensor
    surface: Surface
    visible: Tensor


def _carve(view: _Frames, x: Tensor, y: Tensor, distance: Tensor, solid: Tensor) -> _Carved | None:
    """Lets reliefs hide what lies behind them: changes `distance` and `solid` [N,H,W] in place."""
    frames = torch.nonzero(view.relief[:, 0] > 0)[:, 0]
    if len(frames) == 0:
        return None
    surface = Surface(Relief(view.heights[frames], view.relief[frames, 0], view.relief[frames, 1]))
    entry = relief_entry(surface, view.rotations[frames, -1], view.origins[frames, -1], x[frames], y[frames])
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
    view: _Frames,
    open_air: Tensor,
    heading: tuple[Tensor, Tensor, Tensor],
    grain: Tensor,
    images: Tensor,
    depth: Tensor,
) -> None:
    """Sky without depth where `open_air` [N,H,W] and the scene has one; `heading`: the ray in the room's axes."""
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
    samples = (positions + start.int()[:, None]) & (_NOISE_SAMPLES - 1)
    return _noise_samples(start.device).index_select(0, samples.flatten()).view(shape)


@lru_cache(maxsize=8)
def _noise_samples(device: torch.device) -> Tensor:
    """Standard normal numbers [_NOISE_SAMPLES], the same on every device."""
    return torch.randn(_NOISE_SAMPLES, generator=torch.Generator().manual_seed(20_240_518)).to(device)
