from __future__ import annotations

import numpy as np
import pytest

from refinement.dense.fill import filled, power_law


def _scene() -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[0:60, 0:80]
    depth = (2 + rows / 60 + columns / 40).astype(np.float32)
    depth[20:40, 30:50] = 1.5
    return depth, np.random.default_rng(0).random(depth.shape) < 0.3


def test_a_network_of_other_scale_and_power_is_fitted() -> None:
    depth, verified = _scene()
    found = filled(depth, verified, 5 * depth**0.8)
    np.testing.assert_allclose(found, depth, rtol=2e-3)
    np.testing.assert_array_equal(found[verified], depth[verified])


def test_errors_of_the_network_that_change_over_the_picture_are_followed() -> None:
    depth, verified = _scene()
    drift = np.linspace(0.8, 1.25, depth.shape[1], dtype=np.float32)
    found = filled(depth, verified, depth * drift)
    assert np.abs(found / depth - 1).mean() < 0.02


def test_a_few_wrong_depths_do_not_move_the_pixels_around_them() -> None:
    true, verified = _scene()
    rng = np.random.default_rng(2)
    network = (true * rng.normal(1, 0.02, true.shape)).astype(np.float32)
    verified[30:] = False
    wrong = np.zeros_like(verified)
    wrong[50:55, 10:60:5] = True
    found = filled(np.where(wrong, 2 * true, true), verified | wrong, network)
    below = ~verified & ~wrong
    assert np.abs(found / true - 1)[below].mean() < 0.03


def test_outliers_among_the_verified_do_not_move_the_fit() -> None:
    rng = np.random.default_rng(1)
    network = np.log(rng.uniform(1, 5, 2000))
    depth = 0.3 + 1.2 * network
    depth[:200] += 2
    law = power_law(network, depth)
    assert law is not None
    assert (law.a, law.b) == pytest.approx((0.3, 1.2), abs=0.01)


def test_few_points_fit_a_scale_only() -> None:
    law = power_law(np.log(np.array([1.0, 2.0])), np.log(np.array([2.0, 4.0])))
    assert law is not None
    assert (law.a, law.b) == pytest.approx((np.log(2), 1.0))
    assert power_law(np.zeros(0), np.zeros(0)) is None


def test_where_the_network_saw_nothing_only_verified_depth_stays() -> None:
    depth, verified = _scene()
    network = depth.copy()
    network[:, :40] = np.nan
    found = filled(depth, verified, network)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(network) & ~verified)


def test_with_nothing_verified_the_network_stays_as_it_is() -> None:
    depth, verified = _scene()
    np.testing.assert_array_equal(filled(depth, np.zeros_like(verified), depth * 2), depth * 2)
