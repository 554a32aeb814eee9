from __future__ import annotations

import pytest
import torch

from quantization.nfds import cluster_features, frame_similarity, noise_filter


def test_identical_frames_are_entirely_similar() -> None:
    frame = torch.randn(1, 9, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(frame_similarity(frame.expand(4, -1, -1)), torch.ones(3))


def test_opposite_frames_are_entirely_dissimilar() -> None:
    frame = torch.randn(1, 9, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(frame_similarity(torch.cat((frame, -frame))), -torch.ones(1))


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
    assert 9 not in noise_filter(torch.cat((means[:5].repeat(2, 1)[:9], means[9:])), torch.zeros(10, 1), ["chair"] * 10)


def test_a_category_with_too_few_samples_is_kept_whole() -> None:
    assert noise_filter(torch.tensor([[0.0], [0.0], [1e6]]), torch.zeros(3, 1), ["chair"] * 3) == [0, 1, 2]


def test_clusters_follow_the_features() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.cat([centre + 0.01 * torch.randn(5, 4, generator=generator) for centre in (0.0, 1.0, 2.0)])
    labels = cluster_features(features, 3)
    assert len(set(labels)) == 3
    assert all(len(set(labels[start : start + 5])) == 1 for start in (0, 5, 10))
