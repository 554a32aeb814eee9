"""What a pass will cost: a model of memory and time over the number of tokens, fitted to passes
that were measured.

Memory grows with the tokens of all frames, time with them and, through attention over the scene,
with their square.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MARGIN = 1.15
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
        self._first: list[tuple[float, float, float]] = []
        self._latest: deque[tuple[float, float, float]] = deque(maxlen=_REMEMBERED)
        self._bytes = np.zeros(2)
        self._seconds = np.zeros(2)

    def tokens(self, frames: int, height: int, width: int) -> int:
        """Tokens of `frames` pictures of height x width network pixels."""
        return frames * (
            (height // self.patch_size) * (width // self.patch_size) + self.special_tokens
        )

    def calibrate(self, frames: int, height: int, width: int, cost: Cost) -> None:
        """Learn from a pass of the start-up, which is never forgotten."""
        with self._lock:
            self._first.append(
                (float(self.tokens(frames, height, width)), float(cost.bytes), cost.seconds)
            )
            self._fit()

    @property
    def calibration(self) -> list[tuple[float, float, float]]:
        """Tokens, peak bytes and seconds of the passes of the start-up; another model can begin
        with them."""
        with self._lock:
            return self._first[:]

    @calibration.setter
    def calibration(self, measured: list[tuple[float, float, float]]) -> None:
        with self._lock:
            self._first = measured[:]
            self._fit()

    def observe(self, frames: int, height: int, width: int, cost: Cost) -> None:
        """Learn from a pass that a request paid for."""
        with self._lock:
            self._latest.append(
                (float(self.tokens(frames, height, width)), float(cost.bytes), cost.seconds)
            )
            self._fit()

    def predict(self, frames: int, height: int, width: int) -> Cost:
        """The cost of one pass; memory with a margin."""
        tokens = self.tokens(frames, height, width)
        bytes_ = _MARGIN * (self._bytes[0] + self._bytes[1] * tokens)
        return Cost(int(bytes_), float(self._seconds[0] * tokens + self._seconds[1] * tokens**2))

    def _fit(self) -> None:
        tokens, peak, seconds = np.array([*self._first, *self._latest]).T
        self._bytes = fit_positive(np.stack([np.ones_like(tokens), tokens], axis=1), peak)
        self._seconds = fit_positive(np.stack([tokens, tokens**2], axis=1), seconds)


def fit_positive(terms: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares of relative errors with two terms [N,2], neither coefficient negative."""
    weights = 1 / np.maximum(values, 1e-12)
    scale = terms.max(0)
    a, b = terms / scale * weights[:, None], values * weights
    best, least = np.zeros(2), np.inf
    for used in ([0, 1], [0], [1]):  # with two terms every active set can be tried
        solution = np.zeros(2)
        solution[used] = np.linalg.lstsq(a[:, used], b, rcond=None)[0]
        error = float(np.square(a @ solution - b).sum())
        if (solution >= 0).all() and error < least:
            best, least = solution, error
    return best / scale
