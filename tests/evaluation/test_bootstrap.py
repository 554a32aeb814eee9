from __future__ import annotations

import numpy as np
import pytest
import torch

from evaluation import bootstrap
from evaluation.pose_metrics import pose_auc


def test_the_interval_of_a_mean_has_the_width_of_the_central_limit_theorem() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, size=400)
    found = bootstrap.interval(bootstrap.mean_over_scenes(values), 400, resamples=4000)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_the_same_seed_gives_the_same_interval_and_another_one_does_not() -> None:
    statistic = bootstrap.mean_over_scenes(list(range(30)))
    first, again, other = (bootstrap.interval(statistic, 30, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_a_higher_confidence_is_wider() -> None:
    statistic = bootstrap.mean_over_scenes(list(range(30)))
    wide, narrow = (bootstrap.interval(statistic, 30, confidence=c) for c in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_scenes_are_drawn_within_their_group() -> None:
    seen: list[np.ndarray] = []

    def spy(indices: np.ndarray) -> np.ndarray:
        seen.append(indices.reshape(-1, 5))
        return indices.mean(axis=-1)

    bootstrap.interval(spy, 5, groups=["a", "b", "a", "b", "c"], resamples=250)
    indices = np.concatenate(seen)
    assert len(indices) == 251
    assert {*np.unique(indices[:, [0, 2]])} == {0, 2}
    assert {*np.unique(indices[:, [1, 3]])} == {1, 3}
    assert (indices[:, 4] == 4).all()


def test_the_pooled_mean_of_aucs_is_the_auc_of_the_pooled_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    scenes = [
        40 * torch.rand(2, pairs, generator=generator, dtype=torch.float64) for pairs in (1, 6, 28)
    ]
    statistic = bootstrap.pooled_mean(
        [pose_auc(r, t, 30) for r, t in scenes], [s.shape[1] for s in scenes]
    )
    for drawn in ([0, 1, 2], [2, 2, 1], [0, 0, 0]):
        pooled = torch.cat([scenes[i] for i in drawn], dim=1)
        assert float(statistic(np.array(drawn))) == pytest.approx(
            pose_auc(pooled[0], pooled[1], 30)
        )


def test_the_pooled_median_agrees_with_the_median_of_the_drawn_parts() -> None:
    generator = np.random.default_rng(0)
    parts = [generator.normal(size=size).tolist() for size in (1, 3, 6, 10)]
    draws = generator.integers(4, size=(50, 4))
    found = bootstrap.pooled_median(parts)(draws)
    expected = [np.median(np.concatenate([parts[i] for i in draw])) for draw in draws]
    np.testing.assert_allclose(found, expected)


def test_the_mean_over_groups_weighs_groups_not_scenes() -> None:
    statistic = bootstrap.mean_over_scenes([0.0, 0.0, 0.0, 8.0])
    over_groups = bootstrap.mean_over_groups(
        [(np.array([0, 1, 2]), statistic), (np.array([3]), statistic)]
    )
    assert float(over_groups(np.arange(4))) == 4


def test_impossible_requests_are_refused() -> None:
    statistic = bootstrap.mean_over_scenes([1.0])
    with pytest.raises(ValueError, match="at least one scene"):
        bootstrap.interval(statistic, 0)
    with pytest.raises(ValueError, match="confidence"):
        bootstrap.interval(statistic, 1, confidence=1.0)
    with pytest.raises(ValueError, match="group label"):
        bootstrap.interval(statistic, 1, groups=["a", "b"])
