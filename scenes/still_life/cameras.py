"""Eight cameras as of someone who walks past a table with a camera in the hands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

VIEWS, WIDTH, HEIGHT = 8, 768, 576
FIELD_OF_VIEW = 55.0
"""Degrees, horizontally."""
SUBJECT = np.array([0.0, 0.195, -0.04])
_ARC, _DISTANCE, _RISE = 68.0, 1.22, 0.30


@dataclass(frozen=True)
class Camera:
    """`extrinsic` [3,4] world-to-camera, OpenCV axes, metres; the world's y points up."""

    extrinsic: Array

    @property
    def centre(self) -> Array:
        """Where it stands."""
        return -self.extrinsic[:, :3].T @ self.extrinsic[:, 3]


def intrinsic(width: int = WIDTH) -> Array:
    """Pinhole matrix [3,3] of a picture of this width and 4:3, in its pixels."""
    focal = width / 2 / np.tan(np.radians(FIELD_OF_VIEW) / 2)
    return np.array([[focal, 0, width / 2], [0, focal, width * HEIGHT / WIDTH / 2], [0, 0, 1]])


def walk(seed: int, views: int = VIEWS) -> list[Camera]:
    """From left to right past the subject, uneven as a hand is."""
    rng = np.random.default_rng([seed, 0])
    cameras = []
    for place in np.linspace(-0.5, 0.5, views):
        angle = np.radians(_ARC * place + rng.uniform(-1, 1))
        distance = _DISTANCE + rng.uniform(-0.06, 0.06)
        rise = _RISE + rng.uniform(-0.06, 0.06)
        away = [distance * np.sin(angle), rise, distance * np.cos(angle)]
        centre = SUBJECT + np.array(away)
        target = SUBJECT + rng.uniform(-0.025, 0.025, 3)
        cameras.append(Camera(look(centre, target, rng.uniform(-2.5, 2.5))))
    return cameras


def look(centre: Array, target: Array, roll: float) -> Array:
    """Extrinsic [3,4] of a camera at `centre` that looks at `target`, rolled by degrees."""
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(forward, [0, 1, 0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    rotation = np.stack([c * right + s * down, c * down - s * right, forward])
    return np.concatenate([rotation, -(rotation @ centre)[:, None]], axis=1)
