"""Reliefs: heightfields over a plane, and where rays meet them.

In the relief's frame x and y span the plane and z rises from it; the heights repeat for ever with
`period`. As in `ray_casting`, only exactly rounded operations.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scenes.synthetic.ray_casting import ray

Array = NDArray[np.float64]

GRID = 64
LOWEST = 0.05
"""Of the amplitude: no height is below it."""
_STEPS, _HALVINGS = 20, 5
_FLATTEST = 1e-4


class Relief(NamedTuple):
    """One relief a frame: `heights` [N,GRID,GRID] in [LOWEST, 1], to be multiplied by `amplitude`
    [N], `period` [N]."""

    heights: Tensor
    amplitude: Tensor
    period: Tensor


def draw_heights(rng: np.random.Generator) -> Array:
    """Heights [GRID,GRID] in [LOWEST, 1] whose opposite edges fit together: hills of all sizes, cut
    off or rounded."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(GRID), np.fft.fftfreq(GRID))) * GRID
    frequency[0, 0] = np.inf
    fall = (1 + (frequency / rng.uniform(1.0, 4.0)) ** 2) ** (-rng.uniform(1.5, 2.5) / 2)
    spectrum = (
        np.fft.fft2(rng.standard_normal((GRID, GRID))) * fall * np.exp(-((frequency / 14.0) ** 2))
    )
    heights: Array = np.fft.ifft2(spectrum).real
    heights /= heights.std()
    if rng.random() < 0.5:  # plateaus with steep sides
        heights = np.tanh(rng.uniform(1.0, 2.5) * (heights - rng.uniform(-0.7, 0.7)))
    low, high = heights.min(), heights.max()
    return LOWEST + (1 - LOWEST) * (heights - low) / (high - low)


class Surface:
    """The heights of N frames, ready to be asked at many places."""

    def __init__(self, relief: Relief) -> None:
        here = relief.heights
        right, below = here.roll(-1, 2), here.roll(-1, 1)
        across = below.roll(-1, 2)
        coefficients = torch.stack(
            [here, right - here, below - here, here - right - below + across]
        )
        self._table = (coefficients * relief.amplitude[:, None, None]).flatten(1)
        self._scale = (GRID / relief.period)[:, None, None]
        self._start = (
            torch.arange(len(here), device=here.device, dtype=torch.int32) * GRID * GRID
        )[:, None, None]
        self.amplitude = relief.amplitude[:, None, None]

    def height(self, x: Tensor, y: Tensor) -> Tensor:
        """Height in metres at (`x`, `y`) [N,H,W]."""
        x, y, value, by_x, by_y, by_both = self._cell(x, y)
        return value + x * by_x + y * (by_y + x * by_both)

    def slope(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives of the height by `x` and `y`."""
        x, y, _, by_x, by_y, by_both = self._cell(x, y)
        return (by_x + y * by_both) * self._scale, (by_y + x * by_both) * self._scale

    def _cell(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        x, y = x * self._scale, y * self._scale
        column, row = x.floor(), y.floor()
        index = (row.int() & (GRID - 1)) * GRID + (column.int() & (GRID - 1)) + self._start
        found = self._table.index_select(1, index.flatten()).view(4, *x.shape)
        return x - column, y - row, *found.unbind(0)


def relief_entry(
    surface: Surface, rotation: Tensor, origin: Tensor, x: Tensor, y: Tensor
) -> Tensor:
    """Depth [N,H,W] of the first hit of rays (x, y, 1) from above the relief, infinity where there
    is none.

    `rotation` [N,3,3] camera to relief, `origin` [N,3] camera centre in the relief's frame.
    """
    ray_x, ray_y, ray_z = (ray(rotation, axis, x, y) for axis in range(3))
    o0, o1, o2 = origin[:, :, None, None].unbind(1)
    inverse = ray_z.clamp_max(-_FLATTEST).reciprocal_().neg_()
    start, end = (o2 - surface.amplitude) * inverse, o2 * inverse
    step = (end - start) * (1 / _STEPS)
    above, below, found = start, end, torch.zeros_like(start, dtype=torch.bool)
    for k in range(1, _STEPS):
        at = start + step * k
        under = o2 + ray_z * at < surface.height(o0 + ray_x * at, o1 + ray_y * at)
        below = torch.where(under & ~found, at, below)
        found |= under
        above = torch.where(found, above, at)
    for _ in range(_HALVINGS):
        at = (above + below) * 0.5
        under = o2 + ray_z * at < surface.height(o0 + ray_x * at, o1 + ray_y * at)
        above, below = torch.where(under, above, at), torch.where(under, at, below)
    return torch.where(ray_z < -_FLATTEST, below, torch.inf)
