"""What the matches between pictures say of a set of cameras.

Every camera set, the network's too, is judged by the same measure: the share of the verified
matches that it satisfies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refinement.camera_set import CameraSet

TOLERANCE = 2 / 1000
"""Largest Sampson error of a match that cameras satisfy, of the pictures' longer side."""


@dataclass(frozen=True)
class Matches:
    """M verified matches between the pictures of P pairs."""

    pictures: NDArray[np.int64]  # [P, 2], first < second
    planar: NDArray[np.bool_]  # [P]: one homography explains the pair, so it shows no parallax
    pair: NDArray[np.int64]  # [M], index into the pairs
    key_point: NDArray[np.int64]  # [M, 2], index among the key points of either picture
    pixel: NDArray[np.float64]  # [M, 2, 2], (x, y) in either picture

    def __len__(self) -> int:
        return len(self.pair)

    def supported(self, cameras: CameraSet) -> NDArray[np.bool_]:
        """Which matches `[M]` these cameras satisfy: a Sampson error within the tolerance, and rays
        that meet in front of both cameras or are parallel within the same tolerance.

        Sampson error: Hartley and Zisserman, "Multiple View Geometry", section 11.4.3.
        """
        first, second = self.pictures[self.pair].T
        rays = [
            np.concatenate((cameras.rays(picture, self.pixel[:, side]), np.ones((len(self), 1))), 1)
            for side, picture in enumerate((first, second))
        ]
        zoom = cameras.focal / cameras.longer_side
        rotation, translation = relative_poses(cameras, self.pictures)
        rotation, translation = rotation[self.pair], translation[self.pair]
        turned = np.einsum("mij,mj->mi", rotation, rays[0])
        with np.errstate(all="ignore"):
            line = np.cross(translation, turned)  # of the first ray, in the second picture
            back = np.einsum("mij,mi->mj", rotation, np.cross(rays[1], translation))
            residual = (line * rays[1]).sum(1)
            gradient = (line[:, :2] ** 2).sum(1) / zoom[second] ** 2
            gradient += (back[:, :2] ** 2).sum(1) / zoom[first] ** 2
            close = residual**2 < TOLERANCE**2 * gradient
            normal = np.cross(turned, rays[1])
            in_front = (np.cross(turned, translation) * normal).sum(1) > 0
            in_front &= (np.cross(rays[1], translation) * normal).sum(1) > 0
            far = turned[:, :2] / turned[:, 2:]
            apart = np.linalg.norm(far - rays[1][:, :2], axis=1) * zoom[second]
            parallel = (apart < TOLERANCE) & (turned[:, 2] > 0)
        return (close & in_front) | parallel

    def count(self, chosen: NDArray[np.bool_], pictures: int) -> NDArray[np.int64]:
        """How many of the `chosen` matches `[M]` lie between every two pictures: `[S, S]`."""
        counts = np.bincount(self.pair[chosen], minlength=len(self.pictures))
        table = np.zeros((pictures, pictures), dtype=np.int64)
        first, second = self.pictures.T
        table[first, second] = table[second, first] = counts
        return table


def relative_poses(
    cameras: CameraSet, pairs: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """From the first camera's frame to the second's: rotations `[P, 3, 3]` and translations
    `[P, 3]` of unit length (zero where both stand at one spot)."""
    first, second = cameras.extrinsics[pairs[:, 0]], cameras.extrinsics[pairs[:, 1]]
    rotation = second[:, :, :3] @ first[:, :, :3].transpose(0, 2, 1)
    translation = second[:, :, 3] - np.einsum("pij,pj->pi", rotation, first[:, :, 3])
    length = np.linalg.norm(translation, axis=1, keepdims=True)
    return rotation, np.divide(
        translation, length, out=np.zeros_like(translation), where=length > 0
    )
