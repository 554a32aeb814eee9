from __future__ import annotations

import itertools

import pytest

from training.schedule import averaging_decay, difficulty, late_fade, learning_rate_factor


def test_learning_rate_warms_up_stays_and_falls_to_its_floor() -> None:
    factors = [learning_rate_factor(step, 1000) for step in range(1000)]
    assert factors[0] == pytest.approx(1 / 150)
    assert factors[149:300] == [1.0] * 151
    assert all(later <= earlier for earlier, later in itertools.pairwise(factors[149:]))
    assert factors[-1] == pytest.approx(0.02)


def test_warm_up_never_takes_more_than_a_third_of_a_short_run() -> None:
    assert learning_rate_factor(9, 30) == 1.0
    assert learning_rate_factor(4, 30) == pytest.approx(0.5)


def test_a_run_of_one_step_has_a_learning_rate() -> None:
    assert 0 < learning_rate_factor(0, 1) <= 1


def test_weight_average_forgets_fast_at_first_and_slowly_later() -> None:
    assert averaging_decay(0) == pytest.approx(0.1)
    assert averaging_decay(10**6) == 0.998


def test_orbits_reach_their_full_size_after_a_tenth_of_the_run() -> None:
    assert [difficulty(step, 1000, 0.1) for step in (0, 50, 100, 999)] == [0.0, 0.5, 1.0, 1.0]
    assert difficulty(0, 1000, 0.0) == 1.0


def test_attention_matching_fades_out_in_the_last_quarter() -> None:
    assert [late_fade(step, 1000) for step in (0, 750, 875, 1000)] == [1.0, 1.0, 0.5, 0.0]
