"""Which pictures a picture is compared with, and between which depths it is searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refinement.result import RefinedPicture, SparsePoints

MOST = 6
_LEAST_SHARED = 8
_LEAST_ANGLE, _BEST_ANGLES, _MOST_ANGLE = 1.0, (6.0, 20.0), 60.0  # degrees between two rays
_WIDENED_NEAR, _WIDENED_FAR = 0.7, 1.5


def choose(
    pictures: Sequence[RefinedPicture], sparse: SparsePoints, most: int = MOST
) -> list[list[int]]:
    """For each picture its neighbours, best first: those that share the most sparse points with
    it at a ray angle that is good for matching. Pictures whose camera is the network's have none
    and are nobody's."""
    count = len(pictures)
    centres = np.array(
        [-picture.extrinsic[:, :3].T @ picture.extrinsic[:, 3] for picture in pictures]
    ).reshape(-1, 3)
    scores = np.zeros((count, count))
    shared = np.zeros((count, count), np.int64)
    points = np.repeat(np.arange(len(sparse.xyz)), np.diff(sparse.start))
    seen = np.zeros((count, len(sparse.xyz)), bool)
    seen[sparse.picture, points] = True
    for picture in range(count):
        if pictures[picture].source != "refined":
            seen[picture] = False
    for i in range(count):
        for j in range(i):
            both = seen[i] & seen[j]
            shared[i, j] = shared[j, i] = both.sum()
            if shared[i, j] < _LEAST_SHARED:
                continue
            xyz = sparse.xyz[both]
            angle = _angles(centres[i] - xyz, centres[j] - xyz)
            scores[i, j] = scores[j, i] = _worth(angle).sum()
    chosen = []
    for i in range(count):
        order = np.argsort(-scores[i], kind="stable")
        chosen.append([int(j) for j in order[:most] if scores[i, j] > 0])
    return chosen


def _angles(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosine = (a * b).sum(-1) / np.maximum(lengths, 1e-12)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def _worth(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0 to 1: too small an angle gives no depth, too large a one other pictures."""
    low, high = _BEST_ANGLES
    rising = np.clip((angle - _LEAST_ANGLE) / (low - _LEAST_ANGLE), 0, 1)
    falling = np.clip((_MOST_ANGLE - angle) / (_MOST_ANGLE - high), 0, 1)
    return rising * falling**2


@dataclass(frozen=True)
class DepthRange:
    """Inverse depths between which a picture's surfaces lie."""

    least: float
    most: float


def depth_range(depths: NDArray[np.float64]) -> DepthRange | None:
    """From a picture's known depths, some of which may be wrong; None if there are none."""
    depths = depths[np.isfinite(depths) & (depths > 0)]
    if not len(depths):
        return None
    near, far = np.percentile(depths, (1, 99))
    return DepthRange(1 / (far * _WIDENED_FAR), 1 / (near * _WIDENED_NEAR))
