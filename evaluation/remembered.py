"""A network that computes its answer to the same pictures only once, for comparisons of many with
one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from torch import Tensor

from model.families.family import Geometry


class Remembered:
    """`answer` of frames `[S, 3, H, W]`, kept for the next time that the same frames come."""

    def __init__(self, answer: Callable[[Tensor], Geometry]) -> None:
        self._answer = answer
        self._answers: dict[bytes, Geometry] = {}

    def __call__(self, images: Tensor) -> Geometry:
        key = hashlib.sha256(images.contiguous().numpy().tobytes()).digest()
        if key not in self._answers:
            self._answers[key] = self._answer(images)
        return self._answers[key]
