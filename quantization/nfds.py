"""Noise-filtered diverse sampling of calibration scenes (QuantVGGT, 2025): drop outliers, then
cover the clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from torch import Tensor

CLUSTERS = 5
_SMALLEST_CATEGORY = 4  # fewer samples give no quartiles worth filtering by
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class Features:
    """What sampling knows of n candidates: `similarity` `[n, S - 1]`, `means` and `deviations` `[n,
    layers]`."""

    similarity: Tensor
    means: Tensor
    deviations: Tensor
    categories: tuple[str, ...]


def frame_similarity(tokens: Tensor, num_special: int) -> Tensor:
    """Similarity `[S - 1]` of every later frame to frame 0, from the last layer's tokens `[S, P,
    D]`.

    The first `num_special` tokens are no patches. Channels and then the patch tokens are averaged
    in consecutive pairs; the mean cosine over tokens is the feature.
    """
    pooled = F.avg_pool1d(tokens, 2)
    patches = F.avg_pool1d(pooled[:, num_special:].transpose(1, 2), 2).transpose(1, 2)
    reduced = torch.cat((pooled[:, :num_special], patches), dim=1)
    return F.cosine_similarity(reduced[1:], reduced[:1], dim=-1).mean(dim=-1)


def noise_filter(means: Tensor, deviations: Tensor, categories: Sequence[str]) -> list[int]:
    """Indices of the samples to keep, from activation means and deviations `[samples, layers]`.

    A sample is noise when, in any layer, its mean or deviation lies outside 1.5 interquartile
    ranges of its category.
    """
    noisy: set[int] = set()
    for members in _members(categories):
        if len(members) < _SMALLEST_CATEGORY:
            continue
        for statistic in (means, deviations):
            values = statistic[members].double().numpy()
            low, high = np.percentile(values, (25, 75), axis=0)
            reach = 1.5 * (high - low)
            outside = (values < low - reach) | (values > high + reach)
            noisy.update(members[outside.any(axis=1)].tolist())
    return [i for i in range(len(categories)) if i not in noisy]


def noise_scores(means: Tensor, deviations: Tensor, categories: Sequence[str]) -> Tensor:
    """How unusual each sample is within its category, `[samples]`, in robust standard deviations.

    The largest distance from the median, over the median absolute deviation, of any layer's mean or
    deviation.
    """
    scores = torch.zeros(len(categories), dtype=torch.float64)
    for members in _members(categories):
        for statistic in (means, deviations):
            values = statistic[members].double()
            distance = (values - values.median(dim=0).values).abs()
            spread = _MAD_TO_SIGMA * distance.median(dim=0).values
            score = (distance / spread.clamp(min=1e-12)).amax(dim=1)
            scores[members] = torch.maximum(scores[members], score)
    return scores


def cluster_features(features: Tensor, num_clusters: int, seed: int = 42) -> list[int]:
    """k-means label of every feature vector `[samples, S - 1]`, best of 50 seeded starts."""
    labels = KMeans(n_clusters=num_clusters, n_init=50, random_state=seed).fit_predict(
        features.numpy()
    )
    return [int(label) for label in labels]


def select(
    features: Features, count: int, *, seed: int = 0, noise: bool = True, diverse: bool = True
) -> list[int]:
    """Indices of `count` candidates, ascending: without `noise` no filter, without `diverse` a
    plain random draw.

    If the filter leaves too few, the least unusual of the others come back. Clusters are drawn from
    in turn, so that each gives the same number as long as it has that many. Depends on the
    arguments only. Raises ValueError.
    """
    total = len(features.categories)
    if not 0 < count <= total:
        raise ValueError(
            f"{count} calibration samples were asked for; there are {total} candidates"
        )
    statistics = (features.means, features.deviations, features.categories)
    kept = noise_filter(*statistics) if noise else list(range(total))
    if len(kept) < count:
        by_score = noise_scores(*statistics).argsort(stable=True).tolist()
        kept = sorted(kept + [i for i in by_score if i not in set(kept)][: count - len(kept)])
    random = np.random.default_rng(seed)
    order = [kept[i] for i in random.permutation(len(kept))]
    if diverse:
        labels = dict(zip(kept, _labels(features.similarity[kept]), strict=True))
        turns: dict[int, int] = {}
        for i in list(order):
            turns[i] = sum(1 for j in turns if labels[j] == labels[i])
        order.sort(key=lambda i: turns[i])
    return sorted(order[:count])


def _labels(similarity: Tensor) -> list[int]:
    distinct = len(torch.unique(similarity, dim=0))
    return cluster_features(similarity.double(), min(CLUSTERS, distinct))


def _members(categories: Sequence[str]) -> list[NDArray[np.int64]]:
    names = dict.fromkeys(categories)
    return [np.array([i for i, own in enumerate(categories) if own == name]) for name in names]
