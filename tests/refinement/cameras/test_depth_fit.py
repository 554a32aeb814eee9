from __future__ import annotations

import numpy as np
import pytest

from refinement.cameras.depth_fit import fit_depth


def test_a_power_law_is_found_among_outliers() -> None:
    random = np.random.default_rng(0)
    network = random.uniform(1, 8, 400)
    depth = np.exp(0.3) * network**0.8 * np.exp(random.normal(0, 0.02, 400))
    depth[::5] *= 3
    a, b = fit_depth(depth, network, 10.0) or (0, 0)
    assert a == pytest.approx(0.3, abs=0.03)
    assert b == pytest.approx(0.8, abs=0.03)


def test_one_depth_for_all_points_gives_a_scale() -> None:
    assert fit_depth(np.full(60, 6.0), np.full(60, 3.0), 10.0) == pytest.approx((np.log(2), 1.0))


@pytest.mark.parametrize(("points", "angle"), [(49, 10.0), (200, 2.0), (200, float("nan"))])
def test_few_points_or_little_parallax_are_not_fitted(points: int, angle: float) -> None:
    values = np.linspace(1, 2, points)
    assert fit_depth(values, values, angle) is None
