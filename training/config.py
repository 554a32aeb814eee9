"""All that a training run is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from model.families.vggt.presets import PRESETS
from scenes.synthetic.distribution import TEST_SETS
from training.batches import BatchConfig
from training.objective import LossWeights


@dataclass(frozen=True)
class TrainingConfig:
    """One run. `processes` parts of a batch are computed at once, one core each: other rounding,
    the same data."""

    recipe: str = "rooms"  # its name in `RECIPES`, for the record
    preset: str = "demo"
    steps: int = 4500
    seed: int = 0
    start: str | None = None  # checkpoint whose weights the run starts from instead of random ones
    processes: int = 2
    batches: BatchConfig = field(default_factory=BatchConfig)
    losses: LossWeights = field(default_factory=LossWeights)
    learning_rate: float = 1.3e-3  # AdamW
    muon_learning_rate: float = 0.01
    weight_decay: float = 0.02
    clip_norm: float = 1.0
    # share of frames with dense supervision before `dense_from` of the run
    dense_share_early: float = 0.15
    dense_share_late: float = 0.40
    dense_from: float = 0.35
    constant_until: float = 0.30  # share of the run before the learning rates begin to fall
    teaching_boost: float = 1.0  # on the matching and attention losses in the first half
    auxiliary_warmup: int = 0  # steps in which only the auxiliary heads learn from their losses
    validation_scenes: int = 48
    # of `TEST_SETS`; the last one is what the run is for
    validation_sets: tuple[str, ...] = ("std",)
    mixed_precision: bool = False  # blocks in bfloat16
    # backend of torch.compile for blocks; other rounding, the same data
    compiler: str | None = None
    drawing_processes: int = 0  # that decide on scenes ahead of a device that renders them
    # points of AUC@30 that the other sets may lose for weights to be called better
    tolerated_loss: float = 10.0

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"unknown preset {self.preset!r}; known: {', '.join(PRESETS)}")
        if self.steps < 1 or self.processes < 1:
            raise ValueError(
                f"steps and processes must be at least 1, got {self.steps} and {self.processes}"
            )
        unknown = [name for name in self.validation_sets if name not in TEST_SETS]
        if unknown or not self.validation_sets or self.validation_sets[0] != "std":
            raise ValueError(
                f"validation_sets are {self.validation_sets}; expected std and then any of "
                f"{', '.join(TEST_SETS)}"
            )
