"""What a refinement will cost: seconds of each stage over the work that it has to do, and memory,
fitted to refinements that were measured."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.inference.cost import Cost, fit_positive
from service.states import REFINEMENT_STAGES

_REMEMBERED = 64
_MARGIN = 1.15
_EXHAUSTIVE, _PAIRS_A_PICTURE = 30, 9  # beyond so many pictures only so many pairs are matched
_FEATURE_SIDE = 1600  # longer side of the pictures in which features are looked for
# Seconds on one core of a Xeon, and work, of two scenes of eight pictures (docs/performance.md).
_MEASURED = {
    "features": (14.3, 15.1),
    "matching": (7.2, 56.0),
    "cameras": (10.4, 56.0),
    "dense": (50.3, 8.3),
}
_MEMORY = ((0.0, 0.5e9), (16.0, 0.8e9))  # megapixels of all pictures, bytes


@dataclass(frozen=True)
class RefinementWork:
    """What the stages have to do: megapixels in which features are looked for, pairs of pictures,
    and megapixels of dense depth, 0 without; and megapixels of all pictures."""

    features: float
    pairs: float
    dense: float
    pictures: float

    @classmethod
    def of(cls, sizes: Sequence[tuple[int, int]], dense_side: int | None) -> RefinementWork:
        """Of pictures of `sizes` (height, width), with dense depth of `dense_side` pixels on the
        longer side at most, or None without."""
        count = len(sizes)
        pairs = count * (count - 1) / 2
        if count > _EXHAUSTIVE:
            pairs = min(pairs, _PAIRS_A_PICTURE * count)
        return cls(
            _megapixels(sizes, _FEATURE_SIDE),
            pairs,
            0.0 if dense_side is None else _megapixels(sizes, dense_side),
            _megapixels(sizes, None),
        )

    def units(self) -> dict[str, float]:
        """The work by stage."""
        pairs = self.pairs
        work = (self.features, pairs, pairs, self.dense)
        return dict(zip(REFINEMENT_STAGES, work, strict=True))


class RefinementCost:
    """Predicts a refinement from those seen so far. Safe to call from several threads."""

    def __init__(self, threads: int) -> None:
        """`threads` work on a refinement; it matters until some have been observed."""
        self._lock = threading.Lock()
        first = {stage: (seconds / threads, work) for stage, (seconds, work) in _MEASURED.items()}
        self._times: dict[str, deque[tuple[float, float]]] = {
            stage: deque([pair], _REMEMBERED) for stage, pair in first.items()
        }
        self._memory: deque[tuple[float, float]] = deque(_MEMORY, _REMEMBERED)

    def observe(self, work: RefinementWork, seconds: Mapping[str, float], peak_bytes: int) -> None:
        """Learn from a refinement: `seconds` of the stages that it came to the end of."""
        with self._lock:
            for stage, units in work.units().items():
                if units and stage in seconds:
                    self._times[stage].append((seconds[stage], units))
            if peak_bytes:
                self._memory.append((work.pictures + work.dense, float(peak_bytes)))

    def seconds(self, work: RefinementWork) -> dict[str, float]:
        """Predicted seconds by stage."""
        predicted = {}
        with self._lock:
            for stage, units in work.units().items():
                seconds, known = np.array(self._times[stage]).sum(0)
                predicted[stage] = float(units * seconds / known)
        return predicted

    def predict(self, work: RefinementWork) -> Cost:
        """Seconds, and peak bytes of its process with a margin."""
        with self._lock:
            pictures, peak = np.array(self._memory).T
        base, each = fit_positive(np.stack([np.ones_like(pictures), pictures], axis=1), peak)
        bytes_ = _MARGIN * (base + each * (work.pictures + work.dense))
        return Cost(int(bytes_), sum(self.seconds(work).values()))


def _megapixels(sizes: Sequence[tuple[int, int]], longest: int | None) -> float:
    """Of pictures of `sizes`, none with a side of more than `longest` pixels."""
    total = 0.0
    for height, width in sizes:
        shrink = 1.0 if longest is None else min(1.0, longest / max(height, width))
        total += height * width * shrink**2
    return total / 1e6
