"""The cameras of all pictures of a scene, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CameraSet:
    """S cameras of COLMAP's model SIMPLE_RADIAL in pixels of their original pictures.

    Extrinsics are world-to-camera `[R|t]` with OpenCV axes; a pixel's centre is at + 0.5.
    """

    extrinsics: Array  # [S, 3, 4]
    focal: Array  # [S]
    centre: Array  # [S, 2], principal point (x, y)
    distortion: Array  # [S]
    longer_side: NDArray[np.int64]  # [S], pixels

    def rays(self, picture: NDArray[np.int64], pixel: Array) -> Array:
        """Directions (x, y, 1) `[M, 2]` in the camera's frame of pixels `[M, 2]`, one picture each.

        Solves ``r (1 + k r2) = distorted`` by Newton's method. NaN beyond the radius where the
        model folds back.
        """
        distorted = (pixel - self.centre[picture]) / self.focal[picture, None]
        k = self.distortion[picture]
        wanted = np.hypot(distorted[:, 0], distorted[:, 1])
        with np.errstate(all="ignore"):
            radius = wanted.copy()
            for _ in range(12):
                step = (radius * (1 + k * radius**2) - wanted) / (1 + 3 * k * radius**2)
                radius = radius - step
            slope = 1 + 3 * k * radius**2
            exact = (abs(radius * (1 + k * radius**2) - wanted) < 1e-9) & (slope > 0)
            growth = np.where(wanted > 0, radius / np.where(wanted > 0, wanted, 1), 1.0)
        return distorted * np.where(exact, growth, np.nan)[:, None]

    def centres(self) -> Array:
        """Where the cameras stand `[S, 3]`."""
        rotation, translation = self.extrinsics[:, :, :3], self.extrinsics[:, :, 3]
        return -np.einsum("sji,sj->si", rotation, translation)
