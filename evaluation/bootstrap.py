"""Percentile bootstrap over scenes: test sets here are small, so every figure carries its interval.

The scene is the unit that is drawn again, never the pair or the pixel: errors within a scene are
not independent. Every statistic maps scene indices [..., N] to values [...], so thousands of
resamples are one indexing operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Values = NDArray[np.float64]
Statistic = Callable[[Indices], Values]

RESAMPLES = 1000
_CHUNK = 100  # resamples held in memory at a time


@dataclass(frozen=True)
class Interval:
    """A statistic of all scenes and its percentile bootstrap interval."""

    value: float
    low: float
    high: float


def interval(
    statistic: Statistic,
    scenes: int,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of `statistic` over `scenes` scenes.

    `groups`: one label a scene; scenes are then drawn within their group (stratified), so that
    column k of a resample always holds a scene of the same group as scene k. The same arguments
    give the same interval; two statistics with the same `scenes`, `groups`, `resamples` and `seed`
    see the same resamples, which pairs them.
    """
    if scenes < 1:
        raise ValueError("a bootstrap needs at least one scene, got 0")
    if resamples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"expected resamples >= 1 and 0 < confidence < 1, got {resamples} and {confidence}"
        )
    labels = (
        np.zeros(scenes, dtype=np.int64)
        if groups is None
        else np.unique(np.asarray(groups), return_inverse=True)[1]
    )
    if len(labels) != scenes:
        raise ValueError(f"expected one group label for each of {scenes} scenes, got {len(labels)}")
    value = float(statistic(np.arange(scenes)))
    members = [np.flatnonzero(labels == label) for label in range(int(labels.max()) + 1)]
    generator = np.random.default_rng(seed)
    samples: list[Values] = []
    for start in range(0, resamples, _CHUNK):
        indices = np.empty((min(_CHUNK, resamples - start), scenes), dtype=np.int64)
        for own in members:
            indices[:, own] = own[generator.integers(len(own), size=(len(indices), len(own)))]
        samples.append(statistic(indices))
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(np.concatenate(samples), [tail, 100.0 - tail])
    return Interval(value, float(low), float(high))


def mean_over_scenes(values: Sequence[float]) -> Statistic:
    """Plain mean of one value a scene."""
    array = np.asarray(values, dtype=np.float64)
    return lambda indices: array[indices].mean(axis=-1)


def pooled_mean(values: Sequence[float], weights: Sequence[float]) -> Statistic:
    """Mean over the pooled parts of the drawn scenes: value and number of parts (e.g. frame pairs)
    of each scene.

    The histogram AUC is linear in the histogram, so the AUC of pooled pairs is this mean of the
    scenes' AUCs.
    """
    weight = np.asarray(weights, dtype=np.float64)
    total = np.asarray(values, dtype=np.float64) * weight
    return lambda indices: total[indices].sum(axis=-1) / weight[indices].sum(axis=-1)


def mean_over_groups(statistics: Sequence[tuple[Indices, Statistic]]) -> Statistic:
    """Mean of one statistic a group: (columns of the group, statistic over all scenes). Draw with
    the same `groups`."""
    return lambda indices: np.mean(
        [statistic(indices[..., columns]) for columns, statistic in statistics], axis=0
    )


def pooled_median(parts: Sequence[Sequence[float]]) -> Statistic:
    """Median over the pooled parts (e.g. frame pairs) of the drawn scenes, however many parts each
    scene has."""
    scene = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    values = np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])
    order = np.argsort(values, kind="stable")
    values, scene = values[order], scene[order]

    def statistic(indices: Indices) -> Values:
        draws = indices.reshape(-1, indices.shape[-1])
        times = np.stack([np.bincount(draw, minlength=len(parts)) for draw in draws])
        position = np.cumsum(times[:, scene], axis=1)
        total = position[:, -1:]
        lower = np.argmax(position > (total - 1) // 2, axis=1)
        upper = np.argmax(position > total // 2, axis=1)
        result: Any = (values[lower] + values[upper]) / 2
        return result.reshape(indices.shape[:-1])

    return statistic
