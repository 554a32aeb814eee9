"""Scenes with free cameras: rooms full of clutter, reliefs on a wall, house fronts under the sky.

Room coordinates as in `motion`: y points down, metres; the floor lies at y = 0 or, where no picture
is meant to show it, below. A wall that the cameras look at is the one at the smallest z, its normal
points along z.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenes.synthetic.distribution import FreeScenes, SceneDistribution
from scenes.synthetic.motion import CameraPath, look_at, stratified
from scenes.synthetic.relief import GRID, draw_heights
from scenes.synthetic.room import FAR_BELOW, Room, draw_light, draw_room_size

Array = NDArray[np.float64]

_MARGIN = 0.2
_TRIES = 6
_LEAST_CELL = 4.0  # degrees of arc for each camera
_FACADE_SCALE = 1.6  # houses are larger than furniture
_GROUND = 30.0  # half width of the open ground
# half extents of the relief's plane: its texture lies across z
_FLAT = np.array([[1e3, 1e3, 1e-3]])


@dataclass(frozen=True)
class FreeScene:
    """Cameras, solids as in `Room` with the relief as the last one, and what only free scenes have.

    `heights` [GRID,GRID] of the relief, of which `amplitude` (0: there is none) is the height and
    `period` the width, both in metres; `sky`: the room's walls and ceiling are sky; `large` [K]
    which solids have large patterns.
    """

    path: CameraPath
    room: Room
    heights: Array
    amplitude: float
    period: float
    sky: bool
    large: NDArray[np.bool_]


@dataclass(frozen=True)
class _Stage:
    """Where cameras and objects may be: the room's hull `low` to `high` [3], the focus, and the way
    to the cameras."""

    low: Array
    high: Array
    focus: Array
    radius: float
    towards: Array  # [3] unit vector from the focus to the middle of the cameras


def draw_free_scene(
    rng: np.random.Generator, distribution: SceneDistribution, num_views: int
) -> FreeScene:
    """Draw one scene of `distribution.free`."""
    free = distribution.free
    kind = rng.random()
    facade = kind < free.facade_share
    relief = not facade and kind < free.facade_share + free.relief_share
    radius = rng.uniform(*free.radius) * (_FACADE_SCALE if facade else 1.0)
    best: tuple[float, _Stage, Array, Array, Array] | None = None
    for _ in range(_TRIES):
        half = (
            np.array([_GROUND, _GROUND, _GROUND]) if facade else draw_room_size(rng, distribution)
        )
        floor = (
            rng.uniform(2.0, 4.0) if not facade and rng.random() < free.hidden_floor_share else 0.0
        )
        house = np.array([rng.uniform(2.0, 5.0), rng.uniform(1.2, 2.8), rng.uniform(0.8, 2.0)])
        stage = _draw_stage(rng, free, half, floor, radius, facade, relief, house)
        centres, targets = _draw_cameras(rng, free, stage, num_views)
        shrink = _fit(stage, centres)
        if best is None or shrink > best[0]:
            best = shrink, stage, centres, targets, np.array([half, house, [floor, 0, 0]])
        if shrink > 0.7:
            break
    assert best is not None
    shrink, stage, centres, targets, (half, house, (floor, _, _)) = best
    centres = stage.focus + shrink * (centres - stage.focus)
    targets = stage.focus + shrink * (targets - stage.focus)
    radius *= shrink
    roll = np.deg2rad(free.roll_sigma) * (
        rng.standard_normal() + rng.standard_normal(num_views) / np.sqrt(2)
    )
    nearest = float(centres[:, 2].min() - stage.low[2])  # camera to the wall
    amplitude = min(radius * rng.uniform(0.08, 0.35), 0.8 * nearest) if relief else 0.0
    path = CameraPath("free", centres, look_at(centres, targets, roll), stage.focus)
    room = _furnish(
        rng, distribution, stage, half, floor, radius, centres, house if facade else None, relief
    )
    large = np.arange(len(room.centres)) == 0
    if facade:
        large[1:4] = True
    large[-1] = True
    return FreeScene(
        path=path,
        room=room,
        heights=draw_heights(rng) if relief else np.zeros((GRID, GRID)),
        amplitude=amplitude,
        period=radius * rng.uniform(2.5, 5.0),
        sky=facade,
        large=large,
    )


def _draw_stage(
    rng: np.random.Generator,
    free: FreeScenes,
    half: Array,
    floor: float,
    radius: float,
    facade: bool,
    relief: bool,
    house: Array,
) -> _Stage:
    """A focus in a room of half extents `half` [3] that starts `floor` below 0, on a wall or on an
    object."""
    low = np.array([-half[0], -2 * half[1], -half[2]])
    high = np.array([half[0], floor, half[2]])
    side, depth, height = rng.uniform(-1, 1, 3)
    top = 2 * house[1] if facade else 2 * half[1]
    table, anywhere = -(0.8 + 0.3 * height), -top * (0.5 + 0.4 * height)
    y = table + free.focus_anywhere * (anywhere - table)
    azimuth = rng.uniform(-np.pi, np.pi)
    on_wall = facade or relief or rng.random() < free.wall_share
    if facade:
        low[2] = 0.0  # the front of the house is at z = 0
        focus = np.array([0.7 * house[0] * side, y, 0.0])
    elif on_wall:
        focus = np.array([0.6 * half[0] * side, y, low[2] + 0.15 * radius * (1 + depth)])
    else:
        reach = 0.15 + 0.3 * free.focus_anywhere
        focus = np.array([reach * half[0] * side, y, reach * half[2] * depth])
    if on_wall:
        azimuth *= 0.22  # within 40 degrees of the normal
    pitch = np.deg2rad(free.pitch) * rng.uniform(-1, 1)
    towards = np.array(
        [np.cos(pitch) * np.sin(azimuth), -np.sin(pitch), np.cos(pitch) * np.cos(azimuth)]
    )
    return _Stage(low, high, focus, radius, towards)


def _draw_cameras(
    rng: np.random.Generator, free: FreeScenes, stage: _Stage, num_views: int
) -> tuple[Array, Array]:
    """Centres and points looked at, [S,3] each: along an arc about the focus, or shifted side by
    side."""
    spread = np.deg2rad(max(rng.uniform(*free.half_range), num_views * _LEAST_CELL / 2))
    tilt = np.deg2rad(free.arc_tilt) * rng.uniform(-1, 1)
    level = np.array([stage.towards[2], 0.0, -stage.towards[0]])
    level /= np.linalg.norm(level)
    upright = np.cross(level, stage.towards)
    along = np.cos(tilt) * level + np.sin(tilt) * upright
    across = np.cos(tilt) * upright - np.sin(tilt) * level
    angle = spread * stratified(rng, num_views)[:, None]
    aside = 0.3 * spread * rng.uniform(-1, 1, (num_views, 1))
    distance = stage.radius * (1 + free.radius_jitter * rng.uniform(-1, 1, (num_views, 1)))
    jitter = free.look_at_jitter * stage.radius * rng.uniform(-1, 1, (num_views, 3))
    if rng.random() < free.parallel_share:
        shift = stage.radius * (0.6 * angle * along + aside * across)
        return stage.focus + shift + distance * stage.towards, stage.focus + shift + jitter
    heading = (
        np.cos(aside) * (np.cos(angle) * stage.towards + np.sin(angle) * along)
        + np.sin(aside) * across
    )
    return stage.focus + distance * heading, stage.focus + jitter


def _fit(stage: _Stage, centres: Array) -> float:
    """The largest factor up to 1 by which all `centres` may be drawn from the focus and stay within
    the room."""
    away = centres - stage.focus
    low = np.minimum(stage.low + _MARGIN - stage.focus, -1e-3)
    high = np.maximum(stage.high - _MARGIN - stage.focus, 1e-3)
    with np.errstate(divide="ignore", invalid="ignore"):
        allowed = np.where(away < 0, low / away, high / away)
    return float(min(1.0, np.nanmin(np.where(away == 0, np.inf, allowed))))


def _furnish(
    rng: np.random.Generator,
    distribution: SceneDistribution,
    stage: _Stage,
    half: Array,
    floor: float,
    radius: float,
    cameras: Array,
    house: Array | None,
    relief: bool,
) -> Room:
    """The room or the ground, boxes and ellipsoids about the focus and clear of the cameras, the
    relief's plane."""
    free = distribution.free
    boxes, rounds = most_boxes(distribution), most_rounds(distribution)
    count = boxes + rounds
    wanted = np.zeros(count, dtype=bool)
    wanted[: rng.integers(free.boxes[0], free.boxes[1] + 1)] = True
    wanted[boxes : boxes + rng.integers(free.ellipsoids[0], free.ellipsoids[1] + 1)] = True
    if relief:
        wanted &= rng.random(count) < 0.3
    scale = rng.uniform(*free.object_size, (count, 1))
    sizes = radius * np.clip(scale * rng.uniform(0.5, 1.5, (count, 3)), 0.03, None)
    floating = rng.random(count) < free.floating_share
    places = stage.focus + radius * np.array([0.45, 0.4, 0.45]) * rng.standard_normal((count, 3))
    on_floor = floor - sizes[:, 1]
    places[:, 1] = np.where(floating, np.minimum(places[:, 1], on_floor), on_floor)
    rotations = np.where(floating[:, None, None], _any_turn(rng, count), _yaw(rng, count))
    if house is not None:
        _build(rng, house, radius, stage.focus, wanted, sizes, places, rotations)
    reach = np.linalg.norm(sizes, axis=1)
    apart = np.linalg.norm(places[:, None] - cameras, axis=-1).min(axis=1)
    clear = apart > reach + 0.3 * radius
    if house is not None:
        clear[:3] = True  # the cameras stand in front of the house, however long it is
    hidden = ~(wanted & clear)
    places[hidden] = [0.0, FAR_BELOW, 0.0]

    full_height = 2 * half[1] + floor
    centres = np.concatenate(
        [[[0.0, floor - full_height / 2, 0.0]], places, [[0.0, 0.0, -half[2]]]]
    )
    upright = np.eye(3)[None]
    hull = np.array([[half[0], full_height / 2, half[2]]])
    return Room(
        centres=centres,
        rotations=np.concatenate([upright, rotations, upright]),
        half_extents=np.concatenate([hull, sizes, _FLAT]),
        num_spheres=rounds,
        light=draw_light(rng),
    )


def _build(
    rng: np.random.Generator,
    house: Array,
    radius: float,
    focus: Array,
    wanted: NDArray[np.bool_],
    sizes: Array,
    places: Array,
    rotations: Array,
) -> None:
    """Makes the first three boxes houses whose fronts lie at z = 0 or near it, and some others part
    of the front."""
    side = np.array([0.0, -1.0, 1.0])
    neighbour = rng.uniform(0.6, 1.4, (3, 3))
    sizes[:3] = house * np.where(side[:, None] == 0, 1.0, neighbour)
    recess = np.where(side == 0, 0.0, rng.uniform(-0.6, 1.0, 3) * house[2])
    places[:3, 0] = side * (house[0] + sizes[:3, 0] + rng.uniform(0.0, 0.8, 3))
    places[:3, 1] = -sizes[:3, 1]
    places[:3, 2] = -sizes[:3, 2] - recess
    rotations[:3] = np.eye(3)
    wanted[:3] = [True, rng.random() < 0.6, rng.random() < 0.6]

    attached = np.arange(len(sizes)) >= 3
    attached &= rng.random(len(sizes)) < 0.6
    sizes[attached, 2] *= 0.5
    places[attached] = focus + radius * np.array([0.5, 0.4, 0.0]) * rng.standard_normal(
        (int(attached.sum()), 3)
    )
    places[attached, 1] = np.minimum(places[attached, 1], -sizes[attached, 1])
    rotations[attached] = np.eye(3)
    loose = ~attached
    loose[:3] = False
    places[loose, 1] = -sizes[loose, 1]
    places[loose, 2] = np.abs(places[loose, 2]) + sizes[loose].max(axis=1)


def most_boxes(distribution: SceneDistribution) -> int:
    """How many boxes any scene of `distribution` may have."""
    return max(distribution.boxes[1], distribution.free.boxes[1])


def most_rounds(distribution: SceneDistribution) -> int:
    """How many spheres or ellipsoids any scene of `distribution` may have."""
    return max(distribution.spheres[1], distribution.free.ellipsoids[1])


def _yaw(rng: np.random.Generator, count: int) -> Array:
    """Turns [count,3,3] about the vertical."""
    angle = rng.uniform(-np.pi, np.pi, count)
    turns = np.zeros((count, 3, 3))
    turns[:, 1, 1] = 1.0
    turns[:, 0, 0] = turns[:, 2, 2] = np.cos(angle)
    turns[:, 0, 2] = np.sin(angle)
    turns[:, 2, 0] = -np.sin(angle)
    return turns


def _any_turn(rng: np.random.Generator, count: int) -> Array:
    """Rotations [count,3,3], evenly over all: those of unit quaternions."""
    quaternion = rng.standard_normal((count, 4))
    w, x, y, z = (quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows).transpose(2, 0, 1)
