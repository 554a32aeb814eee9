"""How a scene is run within a memory budget: whole, in joined chunks, then at a lower
resolution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from model.scene.chunking import chunk_frames
from model.scene.loops import most_loops
from service.errors import TooMuchMemory
from service.inference.cost import Cost, CostModel

_FACTORS = (1.0, 0.75, 0.5)
_LEAST_CHUNK = 4  # fewer frames in a pass cost more accuracy than a lower resolution does


@dataclass(frozen=True)
class Plan:
    """`chunks` are the passes, `factor` the share of the full resolution; the cost is the largest
    pass's peak memory and all passes' time, with those that may look for loops. `refinement` is
    what refining the scene will cost, in a process of its own, if it was asked for."""

    frames: int
    factor: float
    pass_frames: int
    chunks: tuple[range, ...]
    cost: Cost
    refinement: Cost | None = None

    @property
    def seconds(self) -> float:
        """Predicted time of all passes and the refinement."""
        return self.cost.seconds + (self.refinement.seconds if self.refinement else 0.0)

    @property
    def steps(self) -> list[str]:
        """What was given up to fit: "chunked", "reduced-resolution"."""
        chunked = ["chunked"] if len(self.chunks) > 1 else []
        return chunked + (["reduced-resolution"] if self.factor < 1 else [])

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        document = {
            "passes": len(self.chunks),
            "pass_frames": max(len(chunk) for chunk in self.chunks),
            "resolution_factor": self.factor,
            "predicted_memory_bytes": self.cost.bytes,
            "predicted_seconds": round(self.seconds, 3),
            "degraded": self.steps,
        }
        if self.refinement is not None:
            document["refinement"] = {
                "predicted_memory_bytes": self.refinement.bytes,
                "predicted_seconds": round(self.refinement.seconds, 3),
            }
        return document


class Planner:
    """Plans within `budget` bytes (None: unknown, so unbounded) and at most `pass_frames` frames a
    pass."""

    def __init__(self, model: CostModel, budget: int | None, pass_frames: int | None) -> None:
        self.model = model
        self.budget = budget
        self.pass_frames = pass_frames

    def plan(self, frames: int, height: int, width: int) -> Plan:
        """The plan that gives up least. Raises TooMuchMemory if none fits."""
        limit = min(frames, self.pass_frames or frames)
        for factor in _FACTORS:
            most = self._most_frames(limit, height * factor, width * factor)
            if most >= min(limit, _LEAST_CHUNK):
                return self._made(frames, height, width, factor, most)
        if most >= min(limit, 2):
            return self._made(frames, height, width, factor, most)
        raise TooMuchMemory(
            f"Pictures of {width} x {height} network pixels need "
            f"{self._cost(min(limit, 2), height * factor, width * factor).bytes} bytes even in "
            "chunks of two at half "
            f"the resolution; {self.budget} are there.",
            memory_budget=self.budget,
        )

    def harder(self, plan: Plan, height: int, width: int) -> Plan | None:
        """What to try after `plan` ran out of memory all the same: half the frames a pass, then
        less resolution."""
        factor, most = plan.factor, plan.pass_frames
        lower = [each for each in _FACTORS if each < factor]
        if most > 2:
            most = max(2, most // 2)
        elif lower:
            factor = lower[0]
        else:
            return None
        made = self._made(plan.frames, height, width, factor, most)
        return replace(made, refinement=plan.refinement)

    def max_frames(self, height: int, width: int, limit: int) -> int:
        """How many frames of height x width network pixels fit into one pass, at most `limit`."""
        return self._most_frames(min(limit, self.pass_frames or limit), height, width)

    def _cost(self, frames: int, height: float, width: float) -> Cost:
        return self.model.predict(frames, int(height), int(width))

    def _most_frames(self, limit: int, height: float, width: float) -> int:
        if self.budget is None:
            return limit
        return max(
            (n for n in range(1, limit + 1) if self._cost(n, height, width).bytes <= self.budget),
            default=0,
        )

    def _made(self, frames: int, height: int, width: int, factor: float, most: int) -> Plan:
        chunks = (
            (range(frames),)
            if frames <= most
            else tuple(chunk_frames(frames, most, max(1, most // 3)))
        )
        costs = [self._cost(len(chunk), height * factor, width * factor) for chunk in chunks]
        seconds = [cost.seconds for cost in costs]
        looking = most_loops(len(chunks)) * max(seconds)
        cost = Cost(max(cost.bytes for cost in costs), sum(seconds) + looking)
        return Plan(frames, factor, most, chunks, cost)
