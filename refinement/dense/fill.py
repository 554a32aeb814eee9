"""The network's depth where the pictures verify none, fitted to what they verify nearby.

The logarithm of depth is the network's, put through one power law for the whole picture, plus a
correction. The correction is known at verified pixels and carried to the others by a bilateral
grid (Chen, Paris and Durand, SIGGRAPH 2007) over column, row and the network's log depth, so that
it passes between neighbours of one surface, not over depth edges. It is averaged on grids from
coarse to fine; where a fine cell knows little, it keeps the coarser one's value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refinement.dense.views import Floats

_CELLS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Shorter sides of a picture in cells, coarsest grid first... """
_PRIOR = 20.0
"""How many verified pixels the coarser grid's value counts for."""
_FARTHEST = 5.0
"""Robust standard deviations by which a correction may differ from the median and be carried to
other pixels. What differs more is verified wrongly, or is a thing that the network did not see."""
_LEAST_DEVIATION = 0.08
"""Below which a deviation does not count as small: the network is no better than that."""
_LEAST_POINTS = 50
_MOST_POINTS = 20000
_ROUNDS = 10


@dataclass(frozen=True)
class PowerLaw:
    """depth = exp(a) * network_depth ** b."""

    a: float
    b: float

    def __call__(self, log_depth: Floats) -> Floats:
        return self.a + self.b * log_depth


def power_law(network: Floats, depth: Floats) -> PowerLaw | None:
    """Fitted by least squares with Cauchy weights to log depths [n] of both; a scale alone if there
    are few or if they vary little; None without any."""
    count = len(network)
    if count == 0:
        return None
    step = -(-count // _MOST_POINTS)
    x, y = network[::step].astype(np.float64), depth[::step].astype(np.float64)
    shift = float(np.median(y - x))
    if count < _LEAST_POINTS or np.std(x) < 0.02:
        return PowerLaw(shift, 1.0)
    a, b = shift, 1.0
    for _ in range(_ROUNDS):
        residual = y - a - b * x
        scale = max(1.4826 * float(np.median(np.abs(residual))), 1e-4)
        weight = 1 / (1 + (residual / scale) ** 2)
        mean_x, mean_y = np.average(x, weights=weight), np.average(y, weights=weight)
        variance = float((weight * (x - mean_x) ** 2).sum())
        b = float((weight * (x - mean_x) * (y - mean_y)).sum()) / max(variance, 1e-12)
        b = float(np.clip(b, 0.5, 2.0))
        a = float(mean_y - b * mean_x)
    return PowerLaw(a, b)


def filled(depth: Floats, verified: NDArray[np.bool_], network: Floats) -> Floats:
    """Depth [h, w]: that of `depth` where `verified`, elsewhere the network's fitted to it; NaN
    where the network has none. All three have one grid."""
    known = np.isfinite(network) & (network > 0)
    log_network = np.log(np.where(known, network, 1)).astype(np.float32)
    both = verified & known
    log_depth = np.log(np.where(both, depth, 1)).astype(np.float32)
    law = power_law(log_network[both], log_depth[both])
    if law is None:
        return np.where(verified, depth, np.where(known, network, np.nan)).astype(np.float32)
    base = law(log_network).astype(np.float32)
    correction = log_depth - base
    correction = _carried(base, correction, both & _usual(correction, both), known)
    fitted = np.exp(base + correction)
    return np.where(verified, depth, np.where(known, fitted, np.nan)).astype(np.float32)


def _usual(correction: Floats, given: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where `correction` is no farther than `_FARTHEST` from its median over `given`."""
    distance = np.abs(correction - np.median(correction[given]))
    deviation = max(1.4826 * float(np.median(distance[given])), _LEAST_DEVIATION)
    usual: NDArray[np.bool_] = distance <= _FARTHEST * deviation
    return usual


def _carried(
    base: Floats, correction: Floats, given: NDArray[np.bool_], wanted: NDArray[np.bool_]
) -> Floats:
    """`correction`, known where `given`, at all pixels `wanted`."""
    height, width = base.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    low = float(base[wanted].min())
    found = np.full(base.shape, correction[given].mean(), np.float32)
    short = min(height, width)
    for cells in _CELLS:
        size = max(short / cells, 2.0)
        bins = 0.4 * (2.0 / cells) ** 0.5
        position = np.stack((rows / size, columns / size, (base - low) / bins))
        shape = tuple(int(axis.max()) + 3 for axis in position)
        total = _splat(position[:, given], correction[given] - found[given], shape)
        weight = _splat(position[:, given], np.ones(int(given.sum()), np.float32), shape)
        grid = total / (weight + _PRIOR)
        found += _slice(grid, position)
    return found


def _splat(position: Floats, values: Floats, shape: tuple[int, ...]) -> Floats:
    index = np.round(position).astype(np.int64)
    flat = np.ravel_multi_index(tuple(index), shape)
    sums = np.bincount(flat, values, math.prod(shape))
    grid: NDArray[np.float64] = sums.astype(np.float64).reshape(shape)
    for axis in range(3):
        grid = _blurred(grid, axis)
    return grid.astype(np.float32)


def _blurred(grid: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    moved = np.moveaxis(grid, axis, 0)
    padded = np.pad(moved, ((1, 1), (0, 0), (0, 0)))
    return np.moveaxis((padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4, 0, axis)


def _slice(grid: Floats, position: Floats) -> Floats:
    low = np.floor(position).astype(np.int64)
    share = (position - low).astype(np.float32)
    found = np.zeros(position.shape[1:], np.float32)
    for corner in np.ndindex(2, 2, 2):
        weight = np.ones_like(found)
        for axis in range(3):
            weight *= share[axis] if corner[axis] else 1 - share[axis]
        found += weight * grid[tuple(low[axis] + corner[axis] for axis in range(3))]
    return found
