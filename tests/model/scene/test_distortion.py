from __future__ import annotations

import numpy as np
import pytest

from model.scene.distortion import distort, undistort


@pytest.mark.parametrize("k", [-0.3, -0.05, 0.0, 0.1, 0.6])
def test_undistorting_undoes_distortion(k: float) -> None:
    places = np.random.default_rng(0).uniform(-0.7, 0.7, (5, 40, 2))
    np.testing.assert_allclose(undistort(distort(places, k), k), places, atol=1e-8)


def test_places_beyond_what_a_barrel_lens_can_show_stay_finite() -> None:
    k = -0.5
    places = undistort(np.array([[5.0, 0.0], [0.0, -50.0]]), k)
    assert np.isfinite(places).all()


def test_places_beyond_the_fold_of_a_barrel_lens_are_held_to_its_radius() -> None:
    k = -0.3
    places = undistort(np.array([[1.2, 0.0], [3.0, -4.0], [0.0, 0.0]]), k)
    largest = 1 / np.sqrt(0.9)
    np.testing.assert_allclose(
        places, [[largest, 0], [0.6 * largest, -0.8 * largest], [0, 0]], 1e-3
    )
