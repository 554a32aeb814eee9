"""What a pass will cost: a model of memory and time over the number of tokens, fitted to passes
that were measured.

Memory grows with the tokens of all frames. Time grows with them and, through attention over the
scene, with the pairs of a token that asks and one that is looked at; something is spent on every
pass whatever it reads.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from model.network.keys import KeyPattern, factor_within, kept_about, pattern

_MARGIN = 1.05  # equal passes differ by so much
_REMEMBERED = 64


@dataclass(frozen=True)
class Cost:
    """Peak bytes beyond the loaded model, and seconds."""

    bytes: int
    seconds: float


class CostModel:
    """Predicts a pass from those seen so far, the calibration at start-up first. Safe to call from
    several threads.

    A frame has one token for every patch of `patch_size` pixels a side, and `special_tokens`
    besides.
    """

    def __init__(self, patch_size: int, special_tokens: int) -> None:
        self.patch_size = patch_size
        self.special_tokens = special_tokens
        self._lock = threading.Lock()
        self._first: dict[float, tuple[float, float]] = {}  # bytes and seconds by tokens
        self._latest: deque[tuple[float, float, float, float]] = deque(maxlen=_REMEMBERED)
        self._bytes = np.zeros(2)
        self._seconds = np.zeros(3)

    def tokens(self, frames: int, height: int, width: int) -> int:
        """Tokens of `frames` pictures of height x width network pixels."""
        rows, columns = self._grid(height, width)
        return frames * (rows * columns + self.special_tokens)

    def keys(self, frames: int, height: int, width: int, budget: int | None) -> KeyPattern:
        """Which of those tokens a pass looks at where it may look at about `budget`; None: all."""
        return pattern(frames, self._grid(height, width), self.special_tokens, budget)

    def budget(self, frames: int, height: int, width: int, factor: int) -> int:
        """The least budget with which a pass keeps one patch of `factor`."""
        grid = self._grid(height, width)
        return math.ceil(kept_about(factor, frames, *grid, self.special_tokens))

    def calibrate(self, frames: int, height: int, width: int, cost: Cost) -> None:
        """Learn from a pass of the start-up over all keys, in place of an earlier one of as many
        tokens; it is never forgotten."""
        with self._lock:
            tokens = float(self.tokens(frames, height, width))
            self._first[tokens] = float(cost.bytes), cost.seconds
            self._fit()

    @property
    def calibration(self) -> list[tuple[float, float, float]]:
        """Tokens, peak bytes and seconds of the passes of the start-up; another model can begin
        with them."""
        with self._lock:
            return [(tokens, *cost) for tokens, cost in self._first.items()]

    @calibration.setter
    def calibration(self, measured: list[tuple[float, float, float]]) -> None:
        with self._lock:
            self._first = {tokens: (peak, seconds) for tokens, peak, seconds in measured}
            self._fit()

    def observe(
        self, frames: int, height: int, width: int, cost: Cost, budget: int | None = None
    ) -> None:
        """Learn from a pass that a request paid for, with so many keys."""
        tokens = float(self.tokens(frames, height, width))
        pairs = tokens * self._kept(frames, height, width, budget)
        with self._lock:
            self._latest.append((tokens, pairs, float(cost.bytes), cost.seconds))
            self._fit()

    def predict(self, frames: int, height: int, width: int, budget: int | None = None) -> Cost:
        """The cost of one pass that looks at about `budget` tokens, by default all; memory with a
        margin."""
        tokens = self.tokens(frames, height, width)
        pairs = tokens * self._kept(frames, height, width, budget)
        bytes_ = _MARGIN * (self._bytes[0] + self._bytes[1] * tokens)
        return Cost(int(bytes_), float(self._seconds @ [1.0, tokens, pairs]))

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        return height // self.patch_size, width // self.patch_size

    def _kept(self, frames: int, height: int, width: int, budget: int | None) -> float:
        scene = (frames, *self._grid(height, width), self.special_tokens)
        return kept_about(1 if budget is None else factor_within(budget, *scene), *scene)

    def _fit(self) -> None:
        first = [(tokens, tokens**2, *cost) for tokens, cost in self._first.items()]
        tokens, pairs, peak, seconds = np.array([*first, *self._latest]).T
        one = np.ones_like(tokens)
        self._bytes = fit_positive(np.stack([one, tokens], axis=1), peak)
        self._seconds = fit_positive(np.stack([one, tokens, pairs], axis=1), seconds)


def fit_positive(terms: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares of relative errors with a few terms [N, K], no coefficient negative."""
    weights = 1 / np.maximum(values, 1e-12)
    scale = terms.max(0)
    a, b = terms / scale * weights[:, None], values * weights
    count = terms.shape[1]
    best, least = np.zeros(count), np.inf
    for size in range(count, 0, -1):  # with so few terms every active set can be tried
        for used in map(list, combinations(range(count), size)):
            solution = np.zeros(count)
            solution[used] = np.linalg.lstsq(a[:, used], b, rcond=None)[0]
            error = float(np.square(a @ solution - b).sum())
            if (solution >= 0).all() and error < least:
                best, least = solution, error
    return best / scale
