"""Radial lens distortion of COLMAP's SIMPLE_RADIAL model: ``x' = x * (1 + k * r2)`` with
``r2 = x * x + y * y``, of places in the plane z = 1 of a camera's frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 12


def distort(places: NDArray[np.float64], k: float) -> NDArray[np.float64]:
    """Where a lens puts the places [..., 2] of the plane z = 1."""
    return places * (1 + k * np.square(places).sum(-1, keepdims=True))


def undistort(places: NDArray[np.float64], k: float) -> NDArray[np.float64]:
    """The inverse of `distort`.

    With k < 0 radii grow only up to ``1 / sqrt(-3 k)``; what lies beyond the image of that radius
    is held to it. Newton's method on the radius, which nears its root from one side.
    """
    if k == 0:
        return places
    given = np.linalg.norm(places, axis=-1)
    wanted, largest = given, np.inf
    if k < 0:
        largest = 1 / np.sqrt(-3 * k)
        wanted = np.minimum(given, largest * 2 / 3)
    radius = wanted.copy()
    for _ in range(_ROUNDS):
        slope = np.maximum(1 + 3 * k * radius * radius, 1e-9)
        radius = np.clip(radius - (radius + k * radius**3 - wanted) / slope, 0, largest)
    growth = np.divide(radius, given, out=np.ones_like(given), where=given > 0)
    return places * growth[..., None]
