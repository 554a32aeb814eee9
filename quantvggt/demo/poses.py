"""How well predicted cameras match known ones, up to the scale that a network can't know.

Extrinsics are world-to-camera [R|t], [S,3,4], OpenCV axes. The two sets may live in different
worlds.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from model.scene.similarity import fit_cameras

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PairError:
    """Angles in degrees between the predicted and the true relative pose of pictures `first` and
    `second`."""

    first: int
    second: int
    rotation: float
    translation_direction: float


def pair_errors(predicted: Array, true: Array) -> list[PairError]:
    """Relative rotation and translation-direction error of every pair of pictures."""
    errors = []
    for i, j in combinations(range(len(true)), 2):
        rotation_p, translation_p = _relative(predicted[i], predicted[j])
        rotation_t, translation_t = _relative(true[i], true[j])
        turn = rotation_p @ rotation_t.T
        # atan2 of twice sine and cosine stays exact for angles near 0 and 180 degrees.
        sine = np.linalg.norm(
            [turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]
        )
        angle = np.degrees(np.arctan2(sine, np.trace(turn) - 1))
        errors.append(PairError(i, j, float(angle), _angle(translation_p, translation_t)))
    return errors


def align(extrinsics: Array, target: Array) -> Array:
    """`extrinsics` moved, turned and scaled as one rigid body into the world of `target`; see
    `fit_cameras`."""
    predicted, known = torch.from_numpy(extrinsics), torch.from_numpy(target)
    return fit_cameras(predicted, known).move_extrinsics(predicted).numpy()


def _relative(first: Array, second: Array) -> tuple[Array, Array]:
    rotation = second[:, :3] @ first[:, :3].T
    return rotation, second[:, 3] - rotation @ first[:, 3]


def _angle(a: Array, b: Array) -> float:
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), np.dot(a, b))))
