from __future__ import annotations

import sys

import numpy as np
import pytest

from service.inference.memory import PeakMemory, free_budget

linux = pytest.mark.skipif(sys.platform != "linux", reason="measures through /proc")


@linux
def test_a_peak_is_seen_although_it_has_passed() -> None:
    memory = PeakMemory("cpu")
    with memory.measured():
        np.ones(100_000_000, np.uint8)
    assert memory.bytes > 90_000_000
    with memory.measured():
        pass
    assert memory.bytes < 90_000_000


@linux
def test_a_peak_is_seen_in_a_process_that_has_freed_more_than_it_needs() -> None:
    held = np.ones(300_000_000, np.uint8)
    memory = PeakMemory("cpu")
    del held
    with memory.measured():
        np.ones(100_000_000, np.uint8)
    assert 90_000_000 < memory.bytes < 200_000_000


@linux
def test_the_budget_is_part_of_what_the_machine_has_free() -> None:
    budget = free_budget("cpu")
    assert budget is not None
    assert 2**20 < budget < 2**50
