"""Procedural multi-view scenes with exact cameras and depth: textured rooms, reliefs and fronts, by
ray casting.

A scene is a function of (split, seed, number of views, size, distribution). The split enters the
entropy of every draw, so splits cannot share a scene. Lengths are metres; pixel (u, v) looks along
((u - cx) / f, (v - cy) / f, 1) with the principal point at (W / 2, H / 2), as
`model.scene.geometry.unproject_depth` has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray

from scenes.scene import Scene, SceneBatch
from scenes.synthetic.distribution import STANDARD, SceneDistribution
from scenes.synthetic.free_scene import FreeScene, draw_free_scene, most_boxes, most_rounds
from scenes.synthetic.motion import CameraPath, draw_path
from scenes.synthetic.relief import GRID
from scenes.synthetic.rendering import NOISE_SAMPLES, Frames, render_frames
from scenes.synthetic.room import FAR_BELOW, Room, draw_room, draw_room_size
from scenes.synthetic.textures import draw_textures, put_tiles

Array = NDArray[np.float64]

__all__ = ["SPLITS", "SceneDistribution", "SyntheticScenes", "render_batch"]

SPLITS = ("train", "calibration", "test")

_CPU_PIXELS = 1 << 17
_ACCELERATOR_PIXELS = 1 << 23


@dataclass(frozen=True)
class SceneRequest:
    """Which scenes to draw: one a seed, of `num_views` frames of `height` x `width` pixels.

    Raises ValueError for an unknown split, a negative seed, fewer than 1 view or an empty image.
    """

    seeds: Sequence[int]
    split: str
    num_views: int
    height: int
    width: int
    distribution: SceneDistribution = STANDARD

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split is {self.split!r}; expected one of {', '.join(SPLITS)}")
        if not self.seeds or min(self.seeds) < 0:
            raise ValueError(f"seeds are {list(self.seeds)}; expected at least one, none negative")
        if min(self.num_views, self.height, self.width) < 1:
            raise ValueError(
                f"num_views {self.num_views}, height {self.height} and width {self.width} must be "
                "at least 1"
            )

    def part(self, part: int, parts: int) -> SceneRequest | None:
        """Scenes `part` of `parts`, None if none fall to it."""
        count = len(self.seeds)
        mine = self.seeds[count * part // parts : count * (part + 1) // parts]
        return replace(self, seeds=mine) if mine else None


@dataclass(frozen=True)
class DrawnScenes:
    """Scenes with everything decided and no pixel made; on the CPU, can be sent to another
    process."""

    request: SceneRequest
    frames: Frames


def draw_scenes(request: SceneRequest) -> DrawnScenes:
    """The slow part that only a CPU can do: a few milliseconds a scene."""
    longer_side = max(request.height, request.width)
    scenes = [
        _draw(request.split, seed, request.num_views, longer_side, request.distribution)
        for seed in request.seeds
    ]
    stacked = (
        torch.from_numpy(np.concatenate(values).astype(np.float32))
        for values in zip(*scenes, strict=True)
    )
    return DrawnScenes(request, Frames(*stacked))


def join_drawn(parts: Sequence[DrawnScenes]) -> DrawnScenes:
    """The scenes of several parts of one request, in their order."""
    seeds = [seed for part in parts for seed in part.request.seeds]
    frames = Frames(
        *(torch.cat(values) for values in zip(*(part.frames for part in parts), strict=True))
    )
    return DrawnScenes(replace(parts[0].request, seeds=seeds), frames)


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
    """Render one scene per seed: B = len(seeds), S = num_views, world = the room (y down, floor at
    0), metres.

    The bits of a scene do not depend on the other seeds of the call. Parameters are drawn on the
    CPU, pixels on `device`. Raises ValueError as `SceneRequest` does.
    """
    return render(
        draw_scenes(SceneRequest(seeds, split, num_views, height, width, distribution)), device
    )


def render(drawn: DrawnScenes, device: torch.device | str = "cpu") -> SceneBatch:
    """The pictures and depths of drawn scenes, made on `device`; as `render_batch` describes."""
    request = drawn.request
    seeds, num_views, height, width = (
        request.seeds,
        request.num_views,
        request.height,
        request.width,
    )
    distribution, device = request.distribution, torch.device(device)
    frames = Frames(*(values.to(device) for values in drawn.frames))
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
            chunk = Frames(*(values[start:stop] for values in frames))
            render_frames(chunk, num_spheres, free, images[start:stop], depth[start:stop])
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
            raise ValueError(
                f"count is {count} and seed {seed}; expected at least one scene and no negative "
                "seed"
            )
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
    """What a scene shows: cameras and solids, their textures [K,6,fields], the lens in radians,
    relief and sky."""

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
    """One scene's frames, in the order and shapes of `Frames`."""
    entropy = [SPLITS.index(split), seed]
    others = np.random.default_rng(np.random.SeedSequence([*entropy, 1]))
    if others.random() < distribution.free_share:
        rng = others
        content = _free_content(rng, distribution, num_views)
    else:
        rng = np.random.default_rng(np.random.SeedSequence(entropy))
        content = _room_content(rng, others, distribution, num_views)
    path, room = content.path, content.room
    gain = rng.uniform(*distribution.gain, size=(num_views, 1)) * rng.uniform(
        0.97, 1.03, (num_views, 3)
    )
    noise = rng.uniform(*distribution.pixel_noise)
    # below 2^20, so exact in float32
    noise_start = rng.integers(NOISE_SAMPLES, size=num_views).astype(np.float64)

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
    rng: np.random.Generator,
    others: np.random.Generator,
    distribution: SceneDistribution,
    num_views: int,
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
        return _Content(
            path, room, textures, field_of_view, np.zeros(2), np.zeros((0, 0)), np.zeros((0, 3))
        )
    room, textures = _pad(room, textures, distribution)
    no_sky = np.full((2, 3), -1.0)
    return _Content(
        path, room, textures, field_of_view, np.zeros(2), np.zeros((GRID, GRID)), no_sky
    )


def _free_content(
    rng: np.random.Generator, distribution: SceneDistribution, num_views: int
) -> _Content:
    scene: FreeScene = draw_free_scene(rng, distribution, num_views)
    textures = draw_textures(rng, len(scene.room.centres), scene.large)
    put_tiles(rng, textures, distribution.free.natural_textures)
    horizon = rng.uniform(0.6, 0.95) + rng.uniform(-0.05, 0.05, 3)
    zenith = (
        horizon
        * rng.uniform(0.5, 1.0)
        * np.array([rng.uniform(0.6, 1.0), rng.uniform(0.8, 1.0), 1.0])
    )
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
