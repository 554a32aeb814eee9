"""A picture's network depth fitted to the sparse points that it sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_POINTS, LEAST_RAY_ANGLE = 50, 3
_ROUNDS = 20
_SCATTER = 0.1  # of log depth, at which a point counts half


def fit_depth(
    depth: NDArray[np.float64], network: NDArray[np.float64], ray_angle: float
) -> tuple[float, float] | None:
    """(a, b) of ``log depth = a + b log network``, by least squares with Cauchy weights, over `[K]`
    points; None with too few of them or too little parallax, where a fit does harm."""
    if len(depth) < LEAST_POINTS or not ray_angle >= LEAST_RAY_ANGLE:
        return None
    x, y = np.log(network), np.log(depth)
    a, b = float(np.median(y - x)), 1.0
    middle = float(np.median(x))
    for _ in range(_ROUNDS):
        weight = 1 / (1 + ((y - a - b * x) / _SCATTER) ** 2)
        centred = x - middle
        total, first, second = weight.sum(), weight @ centred, weight @ centred**2
        determinant = total * second - first**2
        if determinant <= 1e-12 * total**2:
            return a, b
        right, slope = weight @ y, weight @ (centred * y)
        b = float((total * slope - first * right) / determinant)
        a = float((right - b * first) / total) - b * middle
    return a, b
