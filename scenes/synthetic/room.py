"""What stands in a scene: a box-shaped room, boxes and spheres on its floor, and the light.

Room coordinates as in `motion`: x and z span the floor, y points down, the floor is y = 0, metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenes.synthetic.distribution import SceneDistribution

Array = NDArray[np.float64]

CAMERA_CLEARANCE = 0.8
_TRIES = 12
FAR_BELOW = 1000.0


@dataclass(frozen=True)
class Light:
    """A face with unit normal n receives ambient [3] + key [3] * (1 + n . to_light) / 2."""

    to_light: Array
    ambient: Array
    key: Array


@dataclass(frozen=True)
class Room:
    """K solids, each in a frame of its own that is turned about the vertical: the room, the boxes,
    the spheres.

    `centres` [K,3]; `rotations` [K,3,3] world to solid; `half_extents` [K,3] (a sphere has its
    radius three times). Solids that found no place lie far below the floor, out of sight. Light as
    in `Light`.
    """

    centres: Array
    rotations: Array
    half_extents: Array
    num_spheres: int
    light: Light


def draw_room_size(rng: np.random.Generator, distribution: SceneDistribution) -> Array:
    """Half extents [3] (x, y, z) of the room."""
    width, length = rng.uniform(*distribution.room_half_width, size=2)
    return np.array([width, rng.uniform(*distribution.room_height) / 2, length])


def draw_room(
    rng: np.random.Generator,
    distribution: SceneDistribution,
    half: Array,
    cameras: Array,
    focus: Array,
) -> Room:
    """Furnish a room of half extents `half` [3] around `focus` [3], clear of the camera centres
    `cameras` [S,3]."""
    max_boxes, max_spheres = distribution.boxes[1], distribution.spheres[1]
    count = max_boxes + max_spheres
    wanted = np.zeros(count, dtype=bool)
    wanted[: rng.integers(distribution.boxes[0], max_boxes + 1)] = True
    wanted[max_boxes : max_boxes + rng.integers(distribution.spheres[0], max_spheres + 1)] = True

    sizes = np.empty((count, 3))
    sizes[:, [0, 2]] = rng.uniform(0.18, 0.55, (count, 2))
    sizes[:, 1] = rng.uniform(0.15, 0.75, count)
    sizes[max_boxes:] = rng.uniform(0.18, 0.45, (max_spheres, 1))
    reach = np.where(np.arange(count) < max_boxes, np.hypot(sizes[:, 0], sizes[:, 2]), sizes[:, 0])

    near_focus = focus[[0, 2]] + rng.normal(0.0, 0.9, (count, _TRIES, 2))
    anywhere = half[[0, 2]] * rng.uniform(-1, 1, (count, _TRIES, 2))
    candidates = np.where(rng.random((count, 1, 1)) < 0.65, near_focus, anywhere)
    placed = _place(candidates, reach, wanted, half, cameras)

    centres = np.zeros((count + 1, 3))
    centres[0, 1] = -half[1]
    centres[1:, [0, 2]] = placed
    centres[1:, 1] = np.where(np.isfinite(placed[:, 0]), -sizes[:, 1], FAR_BELOW)
    centres = np.nan_to_num(centres)
    _stack_spheres(rng, centres[1:], sizes, max_boxes)

    angles = np.concatenate([[0.0], rng.uniform(-np.pi, np.pi, count)])
    rotations = np.zeros((count + 1, 3, 3))
    rotations[:, 1, 1] = 1.0
    rotations[:, 0, 0] = rotations[:, 2, 2] = np.cos(angles)
    rotations[:, 0, 2] = np.sin(angles)
    rotations[:, 2, 0] = -np.sin(angles)

    return Room(
        centres=centres,
        rotations=rotations,
        half_extents=np.concatenate([half[None], sizes]),
        num_spheres=max_spheres,
        light=draw_light(rng),
    )


def draw_light(rng: np.random.Generator) -> Light:
    """A light from above, and what comes from everywhere."""
    azimuth = rng.uniform(-np.pi, np.pi)
    to_light = np.array([np.sin(azimuth), -rng.uniform(0.4, 1.0), np.cos(azimuth)])
    tints = 1.0 + 0.15 * rng.uniform(-1, 1, (2, 3))
    ambient = rng.uniform(0.3, 0.55)
    return Light(
        to_light=to_light / np.linalg.norm(to_light),
        ambient=ambient * tints[0],
        key=(rng.uniform(1.0, 1.2) - ambient) * tints[1],
    )


def _place(
    candidates: Array, reach: Array, wanted: NDArray[np.bool_], half: Array, cameras: Array
) -> Array:
    """Floor positions [count,2] of solids with bounding circles `reach`, NaN for those that are not
    placed."""
    inside = (np.abs(candidates) + reach[:, None, None] <= half[[0, 2]]).all(-1)
    to_camera = np.linalg.norm(candidates[:, :, None] - cameras[:, [0, 2]], axis=-1).min(-1)
    allowed = inside & (to_camera >= reach[:, None] + CAMERA_CLEARANCE) & wanted[:, None]
    placed = np.full((len(candidates), 2), np.nan)
    for solid, tries in enumerate(candidates):
        gaps = np.linalg.norm(tries[:, None] - placed[:solid], axis=-1)
        free = allowed[solid] & ~(gaps < reach[solid] + reach[:solid]).any(-1)
        if free.any():
            placed[solid] = tries[int(np.argmax(free))]
    return placed


def _stack_spheres(rng: np.random.Generator, centres: Array, sizes: Array, num_boxes: int) -> None:
    """Lift some spheres, in place, onto a box that is standing and low enough to leave the sphere
    in sight."""
    lifted = rng.random(len(centres)) < 0.4
    low = (sizes[:num_boxes, 1] < 0.5) & (centres[:num_boxes, 1] < FAR_BELOW)
    for sphere, box in zip(range(num_boxes, len(centres)), np.flatnonzero(low), strict=False):
        radius = sizes[sphere, 0]
        if lifted[sphere] and radius <= sizes[box, [0, 2]].min():
            centres[sphere] = centres[box]
            centres[sphere, 1] = -2 * sizes[box, 1] - radius
