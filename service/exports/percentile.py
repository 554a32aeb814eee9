"""A percentile of more values than memory holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

_HALF = 16  # bits of a float32 that are counted at a time


def percentile(arrays: Callable[[], Iterable[NDArray[np.float32]]], percent: float) -> float | None:
    """What `numpy.percentile` gives for all values together, None for none. `arrays` is asked for
    them twice; memory holds one array. Values are finite and not negative: their bits then have the
    order of the values, so that counting them finds the one of any rank."""
    counts = np.zeros(1 << _HALF, np.int64)
    for values in arrays():
        counts += np.bincount(_bits(values) >> _HALF, minlength=1 << _HALF)
    total = int(counts.sum())
    if not total:
        return None
    place = percent / 100 * (total - 1)
    ranks = int(np.floor(place)), int(np.ceil(place))
    up_to = np.cumsum(counts)
    upper = [int(np.searchsorted(up_to, rank, "right")) for rank in ranks]
    within = {half: np.zeros(1 << _HALF, np.int64) for half in upper}
    for values in arrays():
        bits = _bits(values)
        for half, found in within.items():
            low = bits[bits >> _HALF == half] & ((1 << _HALF) - 1)
            found += np.bincount(low, minlength=1 << _HALF)
    ends = []
    for rank, half in zip(ranks, upper, strict=True):
        before = int(up_to[half - 1]) if half else 0
        low = int(np.searchsorted(np.cumsum(within[half]), rank - before, "right"))
        ends.append(float(np.array((half << _HALF) | low, np.uint32).view(np.float32)))
    return ends[0] + (ends[1] - ends[0]) * (place - ranks[0])


def _bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values, np.float32).ravel().view(np.uint32)
