from __future__ import annotations

import numpy as np
import pytest

from service.exports.percentile import percentile

RANDOM = np.random.default_rng(0)
ARRAYS = [(1 + RANDOM.exponential(3, (5, size))).astype(np.float32) for size in (7, 1, 40)]


@pytest.mark.parametrize("percent", [0.5, 1, 25, 50, 73.3, 99.9, 100])
def test_it_is_that_of_all_values_together(percent: float) -> None:
    together = np.concatenate([array.ravel() for array in ARRAYS])
    expected = np.percentile(together.astype(np.float64), percent)
    assert percentile(lambda: ARRAYS, percent) == pytest.approx(expected, rel=1e-12)


def test_equal_values_and_none_at_all() -> None:
    ones = [np.ones(3, np.float32), np.empty(0, np.float32)]
    assert percentile(lambda: ones, 25) == 1.0
    assert percentile(lambda: ones[1:], 25) is None
