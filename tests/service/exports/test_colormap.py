from __future__ import annotations

import numpy as np

from service.exports.colormap import TABLE, colorize


def test_lightness_rises_with_the_value() -> None:
    luminance = TABLE @ np.array([0.2126, 0.7152, 0.0722])
    # neighbours may tie or dip by the rounding to whole bytes
    assert (np.diff(luminance[::4]) > 0).all()
    assert luminance[-1] - luminance[0] > 150


def test_values_outside_are_clipped_and_nan_is_black() -> None:
    colors = colorize(np.array([-1.0, 0.0, 1.0, 9.0, np.nan]))
    np.testing.assert_array_equal(colors, [TABLE[0], TABLE[0], TABLE[255], TABLE[255], [0, 0, 0]])
