"""Camera paths through a room: orbit, dolly, hand-held.

Room coordinates: x and z span the floor, y points down (OpenCV-like), the floor is y = 0, metres.
Unless `movement` asks for it, no path puts two cameras (nearly) in one place: without a baseline
the direction of translation is undefined.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenes.synthetic.distribution import SceneDistribution

Array = NDArray[np.float64]

MOTIONS = ("orbit", "dolly", "handheld")
WALL_MARGIN = 0.3
_FOCUS_SPREAD = 0.4
_DOLLY_OFFSET = 1.5


@dataclass(frozen=True)
class CameraPath:
    """Cameras of one scene: `centres` [S,3], world-to-camera `rotations` [S,3,3], `focus` [3] they
    look towards."""

    motion: str
    centres: Array
    rotations: Array
    focus: Array


def draw_path(
    rng: np.random.Generator, distribution: SceneDistribution, num_views: int, room_half: Array
) -> CameraPath:
    """Draw the cameras of one scene inside a room of half extents `room_half` [3] (x, y, z)."""
    weights = np.array(
        [distribution.orbit_weight, distribution.dolly_weight, distribution.handheld_weight]
    )
    motion = MOTIONS[int(rng.choice(3, p=weights / weights.sum()))]
    spread_x, height, spread_z = rng.random(3)
    focus = np.array(
        [
            _FOCUS_SPREAD * (2 * spread_x - 1),
            -0.5 - 0.6 * height,
            _FOCUS_SPREAD * (2 * spread_z - 1),
        ]
    )
    reach = min(room_half[0], room_half[2]) - WALL_MARGIN
    eye_level = -rng.uniform(1.2, 1.9)
    if motion == "orbit":
        centres = _orbit(rng, distribution, num_views, focus, reach)
    elif motion == "dolly":
        centres, focus = _dolly(rng, num_views, focus, reach)
    else:
        centres = _handheld(rng, num_views, focus, reach)
    centres[:, 1] = eye_level + distribution.height_jitter * rng.uniform(-1, 1, num_views)
    if distribution.movement < 1:
        centres = centres.mean(axis=0) + distribution.movement * (centres - centres.mean(axis=0))
    targets = focus + distribution.look_at_jitter * rng.uniform(-1, 1, (num_views, 3))
    roll = np.deg2rad(distribution.roll_sigma) * rng.standard_normal(num_views)
    return CameraPath(motion, centres, look_at(centres, targets, roll), focus)


def stratified(rng: np.random.Generator, count: int) -> Array:
    """One number in the middle 60 % of each of `count` equal cells of [-1, 1], in random order
    [count]."""
    cells = (np.arange(count) + 0.2 + 0.6 * rng.random(count)) / count
    return rng.permutation(2 * cells - 1)


def _heading(azimuth: Array | float) -> Array:
    return np.stack([np.sin(azimuth), np.zeros_like(azimuth), np.cos(azimuth)], axis=-1)


def _orbit(
    rng: np.random.Generator,
    distribution: SceneDistribution,
    num_views: int,
    focus: Array,
    reach: float,
) -> Array:
    half_range = max(
        rng.uniform(*distribution.half_range), num_views * distribution.minimum_cell / 2
    )
    azimuth = rng.uniform(-np.pi, np.pi) + np.deg2rad(half_range) * stratified(rng, num_views)
    jitter = distribution.radius_jitter
    radius = rng.uniform(1.6, (reach - _FOCUS_SPREAD) / (1 + jitter))
    radii = radius * (1 + jitter * rng.uniform(-1, 1, num_views))
    return focus + radii[:, None] * _heading(azimuth)


def _dolly(
    rng: np.random.Generator, num_views: int, focus: Array, reach: float
) -> tuple[Array, Array]:
    """A straight track, forwards or sideways; the focus is far ahead so that the cameras turn
    little."""
    heading = rng.uniform(-np.pi, np.pi)
    sideways = rng.random() < 0.5
    track = heading + np.deg2rad(rng.uniform(-25, 25)) + (np.pi / 2 if sideways else 0.0)
    length = min(rng.uniform(0.8, 2.4) + 0.1 * num_views, 2 * (reach - _DOLLY_OFFSET))
    middle = -_heading(heading) * rng.uniform(0.9, _DOLLY_OFFSET)
    positions = middle + 0.5 * length * stratified(rng, num_views)[:, None] * _heading(track)
    ahead = focus + _heading(heading) * rng.uniform(0.5, 2.0)
    return positions, ahead


def _handheld(rng: np.random.Generator, num_views: int, focus: Array, reach: float) -> Array:
    """Someone who walks about a spot: each position is one of several tries, the first one clear of
    the others."""
    spot = focus + rng.uniform(1.6, reach - _FOCUS_SPREAD - 0.7) * _heading(
        rng.uniform(-np.pi, np.pi)
    )
    tries = spot + np.array([0.7, 0.0, 0.7]) * rng.uniform(-1, 1, (num_views, 16, 3)) * np.sqrt(0.5)
    centres = tries[:, 0].copy()
    for view in range(1, num_views):
        gaps = np.linalg.norm(tries[view, :, None] - centres[None, :view], axis=-1).min(axis=1)
        clear = gaps >= 0.3
        centres[view] = tries[view, int(np.argmax(clear)) if clear.any() else int(np.argmax(gaps))]
    return centres


def look_at(centres: Array, targets: Array, roll: Array) -> Array:
    """World-to-camera rotations [S,3,3] (rows x right, y down, z forward) that look from centres to
    targets."""
    forward = targets - centres
    forward /= np.sqrt((forward * forward).sum(axis=-1, keepdims=True))
    x, y, z = forward.T
    level = np.hypot(x, z)
    right = np.stack([z / level, np.zeros_like(x), -x / level], axis=-1)
    down = np.stack([-x * y / level, level, -y * z / level], axis=-1)
    cosine, sine = np.cos(roll)[:, None], np.sin(roll)[:, None]
    return np.stack([cosine * right + sine * down, cosine * down - sine * right, forward], axis=1)
