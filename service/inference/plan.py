"""How a scene is run within a memory budget: whole, with fewer keys, in joined chunks, then at a
lower resolution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from model.network.keys import FACTORS, USUAL_BUDGET, KeyPattern
from model.scene.chunking import chunk_frames
from model.scene.loops import most_loops
from service.errors import TooMuchMemory
from service.inference.cost import Cost, CostModel

_FACTORS = (1.0, 0.75, 0.5)
_LEAST_CHUNK = 4  # fewer frames in a pass cost more accuracy than a lower resolution does
_LONGEST_PASS = 123  # beyond it others have found one pass to get worse
_CHUNK = 96  # the best of what others have measured on long paths; a third of it is shared


@dataclass(frozen=True)
class Asked:
    """What a request wants of its passes: `attention_keys` is "auto", "all" or a number of tokens,
    `passes` "auto", "one" or a number of frames."""

    attention_keys: str = "auto"
    passes: str = "auto"


@dataclass(frozen=True)
class Plan:
    """`chunks` are the passes, `factor` the share of the full resolution; the cost is the largest
    pass's peak memory and all passes' time, with those that may look for loops. `attention_keys` is
    the budget of each pass, None for all tokens, and `keys` what that comes to in the largest one.
    `refinement` is what refining the scene will cost, in a process of its own, if it was asked
    for."""

    asked: Asked
    frames: int
    factor: float
    pass_frames: int
    chunks: tuple[range, ...]
    attention_keys: int | None
    keys: KeyPattern
    cost: Cost
    refinement: Cost | None = None

    @property
    def seconds(self) -> float:
        """Predicted time of all passes and the refinement."""
        return self.cost.seconds + (self.refinement.seconds if self.refinement else 0.0)

    @property
    def exact(self) -> bool:
        """Whether the scene is what the network says of all its frames at once."""
        return not self.steps

    @property
    def shared_frames(self) -> int:
        """How many frames two chunks share; 0 for one pass."""
        return self.chunks[0].stop - self.chunks[1].start if len(self.chunks) > 1 else 0

    @property
    def steps(self) -> list[str]:
        """What was given up: "fewer-keys", "chunked", "reduced-resolution"."""
        given_up = {
            "fewer-keys": not self.keys.exact,
            "chunked": len(self.chunks) > 1,
            "reduced-resolution": self.factor < 1,
        }
        return [step for step, happened in given_up.items() if happened]

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        frames = max(len(chunk) for chunk in self.chunks)
        document = {
            "passes": len(self.chunks),
            "pass_frames": frames,
            "chunk_frames": frames if len(self.chunks) > 1 else None,
            "shared_frames": self.shared_frames,
            "keys": self.keys.document(),
            "exact": self.exact,
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
    """Plans within `budget` bytes (None: unknown, so unbounded), at most `pass_frames` frames a
    pass, and with passes that look at about `attention_keys` tokens where a request does not say
    (None: all)."""

    def __init__(
        self,
        model: CostModel,
        budget: int | None,
        pass_frames: int | None,
        attention_keys: int | None = USUAL_BUDGET,
    ) -> None:
        self.model = model
        self.budget = budget
        self.pass_frames = pass_frames
        self.attention_keys = attention_keys

    def plan(self, frames: int, height: int, width: int, asked: Asked = Asked()) -> Plan:
        """The plan that gives up least. Raises TooMuchMemory if none fits."""
        limit = min(frames, self._longest_pass(frames, asked))
        keys = self._keys(asked)
        for factor in _FACTORS:
            most = self._most_frames(limit, height * factor, width * factor)
            if most >= min(limit, _LEAST_CHUNK):
                return self._made(asked, frames, height, width, factor, most, keys)
        if most >= min(limit, 2):
            return self._made(asked, frames, height, width, factor, most, keys)
        raise TooMuchMemory(
            f"Pictures of {width} x {height} network pixels need "
            f"{self._bytes(min(limit, 2), height * factor, width * factor)} bytes even in "
            "chunks of two at half "
            f"the resolution; {self.budget} are there.",
            memory_budget=self.budget,
        )

    def harder(self, plan: Plan, height: int, width: int) -> Plan | None:
        """What to try after `plan` ran out of memory all the same: once fewer keys, unless all are
        wanted, then half the frames a pass, then less resolution."""
        keys, factor, most = self._keys(plan.asked), plan.factor, plan.pass_frames
        lower = [each for each in _FACTORS if each < factor]
        fewer = [each for each in FACTORS if each > plan.keys.factor]
        if keys is not None and plan.attention_keys == keys and fewer:
            size = int(height * factor), int(width * factor)
            keys = self.model.budget(min(most, plan.frames), *size, fewer[0])
        elif most > 2:
            most = max(2, most // 2)
        elif lower:
            factor = lower[0]
        else:
            return None
        made = self._made(plan.asked, plan.frames, height, width, factor, most, keys)
        return replace(made, refinement=plan.refinement)

    def max_frames(self, height: int, width: int, limit: int) -> int:
        """How many frames of height x width network pixels fit into one pass, at most `limit`."""
        return self._most_frames(min(limit, self.pass_frames or limit), height, width)

    def longest_seconds(self, height: int, width: int) -> float:
        """Predicted seconds of the longest pass that is planned for pictures of height x width
        network pixels, where a request does not say."""
        most = max(self.max_frames(height, width, _LONGEST_PASS), 1)
        return self.model.predict(most, height, width, self.attention_keys).seconds

    def rules(self, asked: Asked) -> dict[str, Any]:
        """What decides, beside the scene and the memory that there is, how it is run."""
        return {
            "attention_keys": self._keys(asked),
            "passes": asked.passes,
            "pass_frames": self.pass_frames,
        }

    def _keys(self, asked: Asked) -> int | None:
        if asked.attention_keys == "auto":
            return self.attention_keys
        return None if asked.attention_keys == "all" else int(asked.attention_keys)

    def _longest_pass(self, frames: int, asked: Asked) -> int:
        most = self.pass_frames or frames
        if asked.passes == "one":
            return most
        if asked.passes != "auto":
            return min(most, int(asked.passes))
        if self.pass_frames is None and frames > _LONGEST_PASS:
            return _CHUNK
        return most

    def _bytes(self, frames: int, height: float, width: float) -> int:
        return self.model.predict(frames, int(height), int(width)).bytes

    def _most_frames(self, limit: int, height: float, width: float) -> int:
        if self.budget is None:
            return limit
        budget = self.budget
        fitting = (n for n in range(limit, 0, -1) if self._bytes(n, height, width) <= budget)
        return next(fitting, 0)

    def _made(
        self,
        asked: Asked,
        frames: int,
        height: int,
        width: int,
        factor: float,
        most: int,
        keys: int | None,
    ) -> Plan:
        chunks = (
            (range(frames),)
            if frames <= most
            else tuple(chunk_frames(frames, most, max(1, most // 3)))
        )
        size = int(height * factor), int(width * factor)
        costs = [self.model.predict(len(chunk), *size, keys) for chunk in chunks]
        seconds = [cost.seconds for cost in costs]
        looking = most_loops(len(chunks)) * max(seconds)
        cost = Cost(max(cost.bytes for cost in costs), sum(seconds) + looking)
        looked_at = self.model.keys(len(chunks[0]), *size, keys)
        return Plan(asked, frames, factor, most, chunks, keys, looked_at, cost)
