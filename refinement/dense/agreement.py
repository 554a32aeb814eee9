"""Which pixels' depths several pictures agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refinement.dense.views import Camera, Floats

DEPTH_TOLERANCE = 0.01
PIXEL_TOLERANCE = 1.5
LARGEST_COST = 0.9
_REACH, _LEAST_ALIKE, _ALIKE = 2, 8, 0.02
"""Of the 24 pixels around a verified one, so many must be verified at a depth that differs by no
more than this share. Lone pixels agree by chance."""


@dataclass(frozen=True)
class Surface:
    """What matching found for one picture: a plane [3, h, w] and its cost [h, w] for each pixel;
    see `refinement.dense.problem.Problem`."""

    camera: Camera
    planes: Floats
    cost: Floats


def agreeing(
    surface: Surface, others: Sequence[Surface], needed: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """Depth [h, w] of a picture, and where at least `needed` of the other pictures agree with it.

    Another picture agrees where its own plane at the pixel that our point falls on cuts our ray
    within `DEPTH_TOLERANCE` of our depth, and that cut lies within `PIXEL_TOLERANCE` of where our
    point falls. Where they agree, depth is the mean of all cuts and ours, as inverse depths.
    """
    camera = surface.camera
    x, y = camera.rays
    inverse = surface.planes[0] * x + surface.planes[1] * y + surface.planes[2]
    good = (inverse > 0) & (surface.cost < LARGEST_COST)
    index = np.flatnonzero(good)
    x, y, own = x.ravel()[index], y.ravel()[index], inverse.ravel()[index]
    votes = np.zeros(len(index), np.int32)
    total = own.copy()
    for other in others:
        there = other.camera
        rotation = (there.rotation @ camera.rotation.T).astype(np.float32)
        translation = (there.translation - rotation @ camera.translation).astype(np.float32)
        along = [rotation[i, 0] * x + rotation[i, 1] * y + rotation[i, 2] for i in range(3)]
        column, row, seen = _fall(there, [along[i] + translation[i] * own for i in range(3)])
        seen &= (column >= 0) & (column < there.width) & (row >= 0) & (row < there.height)
        at = np.where(seen, row, 0).astype(np.int32) * there.width
        at += np.where(seen, column, 0).astype(np.int32)
        a, b, c = (plane.ravel()[at] for plane in other.planes)
        seen &= other.cost.ravel()[at] < LARGEST_COST
        # n X' = 1 with X' = R r z + t: 1 / z = n R r / (1 - n t)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            cut = (a * along[0] + b * along[1] + c * along[2]) / (
                1 - a * translation[0] - b * translation[1] - c * translation[2]
            )
            seen &= np.abs(cut - own) < DEPTH_TOLERANCE * own
        cut = np.where(seen, cut, own)
        cut_column, cut_row, _ = _fall(there, [along[i] + translation[i] * cut for i in range(3)])
        distance = np.hypot(cut_column - column, cut_row - row)
        seen &= distance < PIXEL_TOLERANCE
        votes += seen
        total += np.where(seen, cut, 0)
    verified = np.zeros(inverse.shape, bool)
    verified.ravel()[index] = votes >= needed
    mean = np.zeros(inverse.shape, np.float32)
    mean.ravel()[index] = total / (votes + 1)
    verified &= _supported(np.where(verified, mean, 0))
    return np.where(mean > 0, 1 / np.where(mean > 0, mean, 1), np.nan), verified


def _supported(inverse: Floats) -> NDArray[np.bool_]:
    """Where enough pixels around have nearly this inverse depth [h, w]; 0 is none."""
    height, width = inverse.shape
    padded = np.pad(inverse, _REACH)
    alike = np.zeros(inverse.shape, np.uint8)
    for dy in range(2 * _REACH + 1):
        for dx in range(2 * _REACH + 1):
            other = padded[dy : dy + height, dx : dx + width]
            alike += np.abs(other - inverse) <= _ALIKE * inverse
    return alike > _LEAST_ALIKE  # a pixel is like itself


def _fall(camera: Camera, point: list[Floats]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Column and row (edges at integers) of points of the camera's frame, and which lie in
    front."""
    front = point[2] > 0.02
    scale = 1 / np.where(front, point[2], 1)
    x, y = point[0] * scale, point[1] * scale
    r2 = camera.distortion * (x * x + y * y)
    front &= 3 * r2 > -1
    column = camera.focal_x * (1 + r2) * x + camera.cx
    row = camera.focal_y * (1 + r2) * y + camera.cy
    return column.astype(np.float32), row.astype(np.float32), front
