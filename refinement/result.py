"""What refining a scene gives.

Pixels are continuous coordinates of the original upright picture: edges at integers, a pixel's
centre at + 0.5. Cameras are world-to-camera `[R|t]` with OpenCV axes; the world is the first
picture's camera; lengths have the unit of the network's reconstruction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Source = Literal["refined", "network"]
"""Whose camera a picture has."""
Method = Literal["none", "seeded", "mapped", "global", "mapped with another focal length"]
"""How the cameras that were kept were found; `none` if the network's stayed."""

NO_DATA, NETWORK, VERIFIED = 0, 1, 2
"""Where a pixel's dense depth comes from: from nothing, from the network's depth fitted to verified
neighbours, or from the pictures themselves, agreed on by several."""


@dataclass(frozen=True)
class Reason:
    """Why something was not refined. `code` stays the same when the words of `message` change."""

    code: str
    message: str


NOT_FINISHED = Reason("not-finished", "The refinement did not come to an end.")


@dataclass(frozen=True)
class RefinedPicture:
    """One picture's camera, and how well the matches between pictures support it.

    The model is COLMAP's SIMPLE_RADIAL: a point at (x, y, 1) in the camera's frame falls on pixel
    ``focal * (1 + distortion * r2) * (x, y) + (cx, cy)`` with ``r2 = x * x + y * y``.
    """

    source: Source
    extrinsic: NDArray[np.float64]  # [3, 4]
    focal: float
    cx: float
    cy: float
    distortion: float
    share: float | None
    """Of this picture's verified matches, those that the cameras satisfy; None without matches."""
    observations: int
    """Sparse points that it sees."""
    ray_angle: float | None
    """Median over its points of the widest angle between rays, degrees; None without points."""
    depth_fit: tuple[float, float] | None
    """(a, b): depth of the refined scene is ``exp(a) * network_depth ** b``; None if not fitted."""

    def intrinsic(self) -> NDArray[np.float64]:
        """Pinhole matrix [3, 3], pixels, without the distortion."""
        return np.array([[self.focal, 0, self.cx], [0, self.focal, self.cy], [0, 0, 1.0]])


@dataclass(frozen=True)
class SparsePoints:
    """N triangulated points and their M observations; those of point n are ``start[n]`` to
    ``start[n + 1]``."""

    xyz: NDArray[np.float64]  # [N, 3], world
    rgb: NDArray[np.uint8]  # [N, 3]
    error: NDArray[np.float64]  # [N], mean reprojection error, pixels
    start: NDArray[np.int64]  # [N + 1]
    picture: NDArray[np.int64]  # [M], from 0
    pixel: NDArray[np.float64]  # [M, 2], (x, y)


@dataclass(frozen=True)
class DenseMap:
    """Depth of one picture on its original pixel grid, or on that grid made smaller as a whole.

    A pixel's ray is that of `RefinedPicture` with its distortion, scaled to this grid.
    """

    depth: NDArray[np.float32]  # [h, w] along the camera's z axis; NaN where there is no data
    source: NDArray[np.uint8]  # [h, w]: NO_DATA, NETWORK or VERIFIED


@dataclass(frozen=True)
class Refinement:
    """The answer of `refine`, one entry of `pictures` for each picture, in their order."""

    pictures: tuple[RefinedPicture, ...]
    method: Method
    support: float | None
    """Share of all verified matches that the answer's cameras satisfy; None if there are none."""
    network_support: float | None
    """The same for the network's cameras."""
    reason: Reason | None
    """Why no camera, or not every camera, was refined; None if all were."""
    sparse: SparsePoints | None = None
    dense: tuple[DenseMap, ...] | None = None
    dense_reason: Reason | None = None
    """Why there is no dense depth although it was asked for."""
    notes: tuple[Reason, ...] = ()
    """What else a user should know, such as two groups of pictures held together by few matches."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By stage: features, matching, the methods that were tried, dense."""
    peak_bytes: int = 0

    @property
    def kept(self) -> int:
        """How many pictures have refined cameras."""
        return sum(picture.source == "refined" for picture in self.pictures)
