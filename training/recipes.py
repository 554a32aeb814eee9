"""Whole training runs by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from training.batches import BatchConfig
from training.config import TrainingConfig

_SIZES = ((96, 96), (72, 96), (96, 72), (60, 96), (96, 60), (96, 48))
_LARGE_SIZES = ((120, 120), (96, 120), (120, 96), (72, 120), (120, 72), (120, 60))
_SIZE_WEIGHTS = (0.35, 0.2, 0.15, 0.1, 0.1, 0.1)

FREE = TrainingConfig(
    recipe="free",
    steps=32_000,
    start="demo",
    batches=BatchConfig(
        sizes=_SIZES,
        size_weights=_SIZE_WEIGHTS,
        long_pools=0.3,
        easy_fraction=0.0,
        dial_until=0.5,
        standard_share=0.4,
        photography=True,
        large_from=0.73,
        large_sizes=_LARGE_SIZES,
    ),
    learning_rate=3.9e-4,
    muon_learning_rate=0.003,
    constant_until=0.0,
    dense_from=0.67,
    teaching_boost=2.0,
    auxiliary_warmup=200,
    validation_scenes=96,
    validation_sets=("std", "free"),
)
"""From trained rooms to free cameras, slowly: a high rate or a sudden new distribution destroys
what is there."""

MIXED = replace(
    FREE,
    recipe="mixed",
    steps=5_800,
    batches=replace(FREE.batches, standard_share=0.65, large_from=0.8),
)
"""The same in an hour and a half of a core; two scenes of three stay standard rooms, which score
better too."""

FURTHER = replace(
    MIXED,
    recipe="further",
    steps=6_000,
    batches=replace(MIXED.batches, dial_until=0.0, standard_share=0.5),
)
"""On from weights that know free cameras: every second scene has one, from the first step.
The bundled weights come from it."""

FREE_GPU = replace(
    FREE,
    recipe="free-gpu",
    steps=6_000,  # a first guess: give --fit-minutes
    batches=replace(
        FREE.batches,
        frames_per_step=1024,
        pool_frames=1024,
        reuse=2,
        # few shapes, for each is compiled: a step has 1024 frames whatever their number a scene
        sizes=((96, 96), (72, 96), (96, 72)),
        size_weights=(0.5, 0.3, 0.2),
        short_frames=((2, 0.7), (4, 0.3)),
        long_frames=((2, 0.1), (4, 0.3), (8, 0.6)),
        large_sizes=((120, 120), (96, 120), (120, 96)),
    ),
    learning_rate=7.8e-4,
    muon_learning_rate=0.006,
    mixed_precision=True,
    compiler="inductor",
    drawing_processes=12,
)
"""The same on a GPU, not measured on one: thirty times the frames a step for twice the rates."""

RECIPES: Mapping[str, TrainingConfig] = {
    "rooms": TrainingConfig(),
    "free": FREE,
    "mixed": MIXED,
    "further": FURTHER,
    "free-gpu": FREE_GPU,
}
