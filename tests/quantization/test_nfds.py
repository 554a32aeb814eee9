from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from quantization.nfds import (
    Features,
    cluster_features,
    frame_similarity,
    noise_filter,
    noise_scores,
    select,
)


def test_identical_frames_are_entirely_similar() -> None:
    frame = torch.randn(1, 9, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        frame_similarity(frame.expand(4, -1, -1), num_special=5), torch.ones(3)
    )


def test_opposite_frames_are_entirely_dissimilar() -> None:
    frame = torch.randn(1, 9, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        frame_similarity(torch.cat((frame, -frame)), num_special=5), -torch.ones(1)
    )


@pytest.mark.parametrize("statistic", ["mean", "deviation"])
def test_an_outlier_in_any_layer_is_dropped(statistic: str) -> None:
    regular = torch.linspace(0, 1, 10)[:, None].repeat(1, 3)
    odd = regular.clone()
    odd[4, 2] = 50
    means, deviations = (odd, regular) if statistic == "mean" else (regular, odd)
    assert noise_filter(means, deviations, ["chair"] * 10) == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_quartiles_are_those_of_the_samples_own_category() -> None:
    means = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 100.0, 100.1, 100.2, 100.3, 100.4])[:, None]
    assert noise_filter(means, torch.zeros(10, 1), ["chair"] * 5 + ["car"] * 5) == list(range(10))
    assert 9 not in noise_filter(
        torch.cat((means[:5].repeat(2, 1)[:9], means[9:])), torch.zeros(10, 1), ["chair"] * 10
    )


def test_a_category_with_too_few_samples_is_kept_whole() -> None:
    assert noise_filter(torch.tensor([[0.0], [0.0], [1e6]]), torch.zeros(3, 1), ["chair"] * 3) == [
        0,
        1,
        2,
    ]


def test_clusters_follow_the_features() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.cat(
        [centre + 0.01 * torch.randn(5, 4, generator=generator) for centre in (0.0, 1.0, 2.0)]
    )
    labels = cluster_features(features, 3)
    assert len(set(labels)) == 3
    assert all(len(set(labels[start : start + 5])) == 1 for start in (0, 5, 10))


def _features(similarity: torch.Tensor, odd: Sequence[int] = ()) -> Features:
    count = len(similarity)
    means = torch.linspace(0, 1, count)[:, None].repeat(1, 2)
    means[list(odd), 1] = 100.0
    return Features(similarity, means, torch.linspace(0, 1, count)[:, None], ("room",) * count)


def _grouped() -> torch.Tensor:
    """Twelve candidates in five places, eight of them in the first."""
    places = torch.tensor([0] * 8 + [1, 2, 3, 4])
    return torch.eye(5)[places] + 0.01 * torch.randn(
        12, 5, generator=torch.Generator().manual_seed(0)
    )


def test_a_noisy_candidate_is_the_most_unusual_and_is_never_drawn() -> None:
    features = _features(_grouped(), odd=[3])
    scores = noise_scores(features.means, features.deviations, features.categories)
    assert int(scores.argmax()) == 3
    for seed in range(20):
        assert 3 not in select(features, 6, seed=seed, diverse=False)
    assert any(
        3 in select(features, 6, seed=seed, noise=False, diverse=False) for seed in range(20)
    )


def test_every_cluster_gives_before_any_gives_twice() -> None:
    features = _features(_grouped())
    for seed in range(5):
        assert {8, 9, 10, 11} <= set(select(features, 5, seed=seed))
    assert not all(
        {8, 9, 10, 11} <= set(select(features, 5, seed=seed, diverse=False)) for seed in range(5)
    )


def test_the_draw_depends_on_the_seed_only() -> None:
    features = _features(_grouped())
    assert select(features, 6, seed=1) == select(features, 6, seed=1)
    assert len({tuple(select(features, 6, seed=seed)) for seed in range(6)}) > 1


def test_if_the_filter_leaves_too_few_the_least_unusual_come_back() -> None:
    features = _features(_grouped(), odd=[2, 5])
    features.means[5, 1] = 1000.0
    assert select(features, 11) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]


def test_identical_candidates_can_be_drawn_from() -> None:
    assert len(select(_features(torch.ones(6, 3)), 4)) == 4


def test_more_samples_than_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="13 calibration samples were asked for; there are 12"):
        select(_features(_grouped()), 13)
