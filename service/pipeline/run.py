"""What is learnt while a job is worked on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from refinement.result import Refinement
from service.inference.engine import Engine
from service.inference.network_pass import Pass, Tracks
from service.result.document import ScaleDocument
from service.states import NETWORK_STAGES, STAGES


@dataclass
class Run:
    """`started` are seconds since the epoch, `seconds` are by stage; `engine` is the model."""

    engine: Engine
    started: float
    seconds: dict[str, float]
    peak_bytes: int = 0
    out_of_memory: int = 0
    resumed: int = 0
    loops: list[dict[str, Any]] = field(default_factory=list)
    tracks: Tracks | None = None
    refinement: Refinement | None = None
    scale: ScaleDocument = field(default_factory=ScaleDocument)

    def add(self, done: Pass) -> None:
        for stage, seconds in done.seconds.items():
            self.took(stage, seconds)
        self.peak_bytes = max(self.peak_bytes, done.peak_bytes)

    def took(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @property
    def network_seconds(self) -> float:
        """What all passes took."""
        return sum(self.seconds.get(stage, 0.0) for stage in NETWORK_STAGES)

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage, in the order of the stages."""
        return {stage: self.seconds[stage] for stage in STAGES if stage in self.seconds}
