"""A perceptual colour map, computed: lightness rises evenly while the hue turns from violet to
yellow.

The path is a curve in OKLCh (Björn Ottosson's OKLab in polar form), so equal steps of the value
look like equal steps, and the order of values survives in grey.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LIGHTNESS = (0.20, 0.95)
_HUE_DEGREES = (305.0, 105.0)
_CHROMA = 0.15

# OKLab to the cube roots of cone responses, and cone responses to linear sRGB (Ottosson 2020).
_LAB_TO_ROOTS = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_CONES_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def _linear_rgb(lightness: NDArray[np.float64], chroma: NDArray[np.float64]) -> NDArray[np.float64]:
    hue = np.radians(np.linspace(*_HUE_DEGREES, len(lightness)))
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
    return (lab @ _LAB_TO_ROOTS.T) ** 3 @ _CONES_TO_RGB.T


def _table(size: int) -> NDArray[np.uint8]:
    lightness = np.linspace(*_LIGHTNESS, size)
    # The strongest chroma, up to the wanted one, that sRGB can show at each lightness and hue.
    chroma = np.zeros(size)
    for candidate in np.linspace(0.0, _CHROMA, 301):
        rgb = _linear_rgb(lightness, np.full(size, candidate))
        chroma = np.where(((rgb >= 0) & (rgb <= 1)).all(axis=-1), candidate, chroma)
    rgb = np.clip(_linear_rgb(lightness, chroma), 0.0, 1.0)
    encoded = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return np.round(encoded * 255).astype(np.uint8)


TABLE: NDArray[np.uint8] = _table(256)


def colorize(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Values [...] in [0, 1] to sRGB colours uint8 [..., 3]; NaN becomes black."""
    index = np.nan_to_num(np.clip(values, 0.0, 1.0) * 255, nan=0.0)
    colors = TABLE[np.round(index).astype(np.intp)]
    return np.where(np.isnan(values)[..., None], np.uint8(0), colors)
