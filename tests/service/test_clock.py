from __future__ import annotations

import time

import pytest

from service import clock as module
from service.clock import Clock

HOUR = 3600.0
START = 1_800_000_000.0


class Machine:
    """A machine whose uptime and clock the test sets."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.uptime, self.time = 50.0, START
        patch.setattr(module, "_uptime", lambda: self.uptime)
        patch.setattr(time, "time", lambda: self.time)

    def run(self, seconds: float) -> None:
        self.uptime += seconds
        self.time += seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_it_is_the_machines_clock_where_nothing_jumps(machine: Machine) -> None:
    clock = Clock()
    for _ in range(5):
        machine.run(100.0)
        assert clock.now() == machine.time


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_jump_is_followed_slowly_and_time_never_falls(machine: Machine, jump: float) -> None:
    clock = Clock()
    machine.time += jump
    assert clock.now() == START
    machine.run(60.0)
    first = clock.now()
    assert first == pytest.approx(START + (66.0 if jump > 0 else 54.0))
    for _ in range(9):
        machine.run(HOUR)
        before, first = first, clock.now()
        assert 0 < first - before <= 1.1 * HOUR
        assert first != machine.time
    machine.run(HOUR)
    assert clock.now() == pytest.approx(machine.time)


def test_uptime_rises() -> None:
    first = module._uptime()
    time.sleep(0.01)
    assert 0.005 < module._uptime() - first < 10
