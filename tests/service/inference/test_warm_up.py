from __future__ import annotations

import pytest

from service.inference import warm_up as warm_up_module
from service.inference.cost import Cost, CostModel
from service.inference.plan import Planner
from service.inference.warm_up import warm_up

SIDE, PATCH, SPECIAL = 96, 12, 5


@pytest.fixture(autouse=True)
def whole_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of the service make do with the shortest passes."""
    monkeypatch.setattr(warm_up_module, "_LONG_SECONDS", 1.0)


class Machine:
    """Where passes cost what a law says; what the longest has left behind counts afterwards."""

    def __init__(self, seconds_a_token: float) -> None:
        self.model = CostModel(PATCH, SPECIAL)
        self.ran: list[tuple[int, int]] = []
        self._seconds = seconds_a_token
        self._left = 0

    def measure(self, frames: int, side: int) -> Cost:
        self.ran.append((frames, side))
        tokens = self.model.tokens(frames, side, side)
        peak = self._left + 20_000 * tokens
        self._left = max(self._left, 5_000 * tokens)
        return Cost(peak, self._seconds * tokens)

    def frames(self) -> list[int]:
        return [frames for frames, _ in self.ran]


def test_what_the_longest_pass_leaves_behind_is_in_the_predictions() -> None:
    machine = Machine(1e-6)
    warm_up(machine.measure, Planner(machine.model, None, None), SIDE, PATCH)
    assert max(machine.frames()) == 96
    for frames in (8, 32, 128):
        taken = machine.measure(frames, SIDE)
        predicted = machine.model.predict(frames, SIDE, SIDE)
        assert predicted.bytes == pytest.approx(1.05 * taken.bytes, rel=0.01)
        assert predicted.seconds == pytest.approx(taken.seconds, rel=0.01)


def test_where_passes_take_long_six_frames_are_the_most_and_none_is_repeated() -> None:
    machine = Machine(0.1)
    warm_up(machine.measure, Planner(machine.model, None, None), SIDE, PATCH)
    assert machine.frames() == [1, 1, 1, 2, 6]


def test_no_pass_of_the_warm_up_is_beyond_the_memory_that_there_is() -> None:
    machine = Machine(1e-6)
    budget = int(20_000 * machine.model.tokens(4, SIDE, SIDE))
    warm_up(machine.measure, Planner(machine.model, budget, None), SIDE, PATCH)
    assert max(machine.frames()) == 2
