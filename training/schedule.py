"""What changes during a run, as pure functions of the step: learning rate, averaging, difficulty,
loss weights."""

from __future__ import annotations

import math


def learning_rate_factor(
    step: int, steps: int, *, warmup: int = 150, constant_until: float = 0.30, floor: float = 0.02
) -> float:
    """Linear warm-up, constant until `constant_until` of the run, then a cosine down to `floor`.

    `step` counts from 0. The warm-up never takes more than a third of the run.
    """
    warmup = min(warmup, steps // 3)
    decay_start = max(warmup, constant_until * steps)
    if step < warmup:
        return (step + 1) / warmup
    if step < decay_start:
        return 1.0
    progress = min(1.0, (step - decay_start) / max(1.0, steps - 1 - decay_start))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def averaging_decay(step: int, limit: float = 0.998) -> float:
    """Decay of the exponential moving average of the weights: short memory at first, `limit`
    later."""
    return min(limit, (step + 1) / (step + 10))


def difficulty(step: int, steps: int, easy_fraction: float) -> float:
    """0 at the start, 1 from `easy_fraction` of the run on: how far the camera orbits have grown; 0
    means at once."""
    return min(1.0, step / (easy_fraction * steps)) if easy_fraction > 0 else 1.0


def early_boost(step: int, steps: int, boost: float, until: float = 0.5) -> float:
    """`boost` before `until` of the run, 1 from there on."""
    return boost if step < until * steps else 1.0


def late_fade(step: int, steps: int, fade_from: float = 0.75) -> float:
    """1 until `fade_from` of the run, then linear to 0 at its end."""
    return min(1.0, max(0.0, (1 - step / steps) / (1 - fade_from)))
