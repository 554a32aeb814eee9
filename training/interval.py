"""What the log says of the steps since its last line."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any


class Interval:
    """Means over the steps since the last log line."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.frames = 0
        self._sums: dict[str, list[float]] = {}

    def add(self, terms: Mapping[str, float], frames: int) -> None:
        self.frames += frames
        for name, value in terms.items():
            self._sums.setdefault(name, []).append(value)

    def means(self) -> dict[str, float]:
        return {name: round(sum(values) / len(values), 5) for name, values in self._sums.items()}


def sentence(record: Mapping[str, Any], steps: int) -> str:
    """A record of the log in words."""
    total = record["losses"].get("total", math.nan)
    accuracy = record["attention_accuracy"]
    matched = "" if accuracy is None else f", attention accuracy {accuracy:.2f}"
    return (
        f"step {record['step']}/{steps}: loss {total:.3f}{matched}, "
        f"{record['frames_per_s']} frames/s, {record['elapsed_s'] / 60:.1f} min"
    )
