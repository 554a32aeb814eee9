"""Noise-filtered diverse sampling of calibration scenes (QuantVGGT, 2025): drop outliers, then cover the clusters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor

_SMALLEST_CATEGORY = 4  # fewer samples give no quartiles worth filtering by


def frame_similarity(tokens: Tensor, num_special: int = 5) -> Tensor:
    """Similarity `[S - 1]` of every later frame to frame 0, from the last layer's tokens `[S, P, 2C]`.

    Channels and then the patch tokens are averaged in consecutive pairs; the mean cosine over tokens is the feature.
    """
    pooled = F.avg_pool1d(tokens, 2)
    patches = F.avg_pool1d(pooled[:, num_special:].transpose(1, 2), 2).transpose(1, 2)
    reduced = torch.cat((pooled[:, :num_special], patches), dim=1)
    return F.cosine_similarity(reduced[1:], reduced[:1], dim=-1).mean(dim=-1)


def noise_filter(means: Tensor, deviations: Tensor, categories: Sequence[str]) -> list[int]:
    """Indices of the samples to keep, from activation means and deviations `[samples, layers]`.

    A sample is noise when, in any layer, its mean or deviation lies outside 1.5 interquartile ranges of its category.
    """
    noisy: set[int] = set()
    for category in dict.fromkeys(categories):
        members = np.array([i for i, name in enumerate(categories) if name == category])
        if len(members) < _SMALLEST_CATEGORY:
            continue
        for statistic in (means, deviations):
            values = statistic[members].double().numpy()
            low, high = np.percentile(values, (25, 75), axis=0)
            reach = 1.5 * (high - low)
            outside = (values < low - reach) | (values > high + reach)
            noisy.update(members[outside.any(axis=1)].tolist())
    return [i for i in range(len(categories)) if i not in noisy]


def cluster_features(features: Tensor, num_clusters: int, seed: int = 42) -> list[int]:
    """k-means label of every feature vector `[samples, S - 1]`, best of 50 seeded starts."""
    labels = KMeans(n_clusters=num_clusters, n_init=50, random_state=seed).fit_predict(features.numpy())
    return [int(label) for label in labels]
