"""What matching works on: a picture's planes, its neighbours, and how windows are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from refinement.dense.views import Floats, View


@dataclass(frozen=True)
class Window:
    """Pixels around a centre, every `step`-th to `radius` away, weighted by how far they lie and by
    how their grey value differs."""

    radius: int = 4
    step: int = 2
    spatial_sigma: float = 4.0  # pixels
    grey_sigma: float = 20.0  # grey levels of 255
    grey_noise: float = 4.0
    """Variance that is added to that of both windows, squared grey levels: what is flatter than
    this matches nothing well."""

    @cached_property
    def offsets(self) -> NDArray[np.int32]:
        """[samples, 2], x and y."""
        line = np.arange(-self.radius, self.radius + 1, self.step, dtype=np.int32)
        return np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)

    @cached_property
    def spatial_weights(self) -> Floats:
        """[samples]."""
        square = (self.offsets.astype(np.float32) ** 2).sum(-1)
        return np.exp(-square / np.float32(2 * self.spatial_sigma**2)).astype(np.float32)

    @cached_property
    def grey_weights(self) -> Floats:
        """[256], by the difference of grey values."""
        difference = np.arange(256, dtype=np.float32)
        return np.exp(-difference / np.float32(self.grey_sigma)).astype(np.float32)


@dataclass(frozen=True)
class Geometry:
    """Adds to a plane's cost in a neighbour how far the neighbour's own depth is from agreeing: the
    pixels between a pixel and where it comes back to by way of that depth."""

    inverse_depths: Sequence[Floats]  # one a source, [h, w]; 0 where there is none
    weight: float = 0.2  # for each pixel
    limit: float = 3.0  # pixels


@dataclass
class Problem:
    """One picture and its neighbours. `planes` [3, h, w] and `cost` [h, w] change as matching goes
    on: the plane (a, b, c) of a pixel holds the points with a X + b Y + c Z = 1 in the picture's
    frame, so that its inverse depth along the ray (x, y, 1) is a x + b y + c."""

    reference: View
    sources: Sequence[View]
    planes: Floats
    cost: Floats
    least_inverse: float
    most_inverse: float
    seed: int
    window: Window = Window()

    def relative(self, source: View) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rotation [3, 3] and translation [3] from the reference's frame to the source's."""
        here, there = self.reference.camera, source.camera
        rotation = there.rotation @ here.rotation.T
        return rotation, there.translation - rotation @ here.translation

    @property
    def inverse_depth(self) -> Floats:
        """[h, w] of the planes."""
        x, y = self.reference.camera.rays
        a, b, c = self.planes
        return a * x + b * y + c
