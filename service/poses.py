"""How well predicted cameras match known ones, up to the scale that a network can't know.

Extrinsics are world-to-camera [R|t], [S,3,4], OpenCV axes. The two sets may live in different worlds.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PairError:
    """Angles in degrees between the predicted and the true relative pose of pictures `first` and `second`."""

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
        sine = np.linalg.norm([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
        angle = np.degrees(np.arctan2(sine, np.trace(turn) - 1))
        errors.append(PairError(i, j, float(angle), _angle(translation_p, translation_t)))
    return errors


def camera_centres(extrinsics: Array) -> Array:
    """Centres [S,3] in the world of the extrinsics."""
    return -np.einsum("sji,sj->si", extrinsics[:, :, :3], extrinsics[:, :, 3])


def align(extrinsics: Array, target: Array) -> Array:
    """`extrinsics` moved, turned and scaled as one rigid body into the world of `target`.

    The turn is the mean of all cameras' turns (so two pictures, or a straight path, suffice), scale and shift are
    the least-squares fit of the camera centres.
    """
    turn = _nearest_rotation(np.einsum("sji,sjk->ik", target[:, :, :3], extrinsics[:, :, :3]))
    centres, wanted = camera_centres(extrinsics) @ turn.T, camera_centres(target)
    spread, wanted_spread = centres - centres.mean(0), wanted - wanted.mean(0)
    extent = float((spread**2).sum())
    scale = float((spread * wanted_spread).sum()) / extent if extent > 0 else 1.0
    if scale <= 0:  # no similarity brings mirrored centres together: at least the extents agree
        scale = float(np.sqrt((wanted_spread**2).sum() / extent)) or 1.0
    moved = scale * spread + wanted.mean(0)
    rotations = extrinsics[:, :, :3] @ turn.T
    return np.concatenate([rotations, -np.einsum("sij,sj->si", rotations, moved)[..., None]], axis=-1)


def _relative(first: Array, second: Array) -> tuple[Array, Array]:
    rotation = second[:, :3] @ first[:, :3].T
    return rotation, second[:, 3] - rotation @ first[:, 3]


def _angle(a: Array, b: Array) -> float:
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), np.dot(a, b))))


def _nearest_rotation(matrix: Array) -> Array:
    u, _, vt = np.linalg.svd(matrix)
    u[:, -1] *= np.sign(np.linalg.det(u @ vt))
    return u @ vt
