"""The table of measured times. Which way is faster is given by ways that wait, never asserted of a
machine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kernels.fastest import Fastest
from kernels.machine import describe

CPU = torch.device("cpu")


class Way:
    """Something to run: counts its runs, takes so long, or can't run."""

    def __init__(self, seconds: float = 0.0, error: Exception | None = None) -> None:
        self.seconds, self.error, self.runs = seconds, error, 0

    def __call__(self) -> None:
        self.runs += 1
        if self.error is not None:
            raise self.error
        time.sleep(self.seconds)


@pytest.fixture
def table(tmp_path: Path) -> Callable[[], Fastest]:
    """Tables as processes that are started one after the other make them."""
    return lambda: Fastest(tmp_path, "a machine", CPU)


def test_the_fastest_way_is_chosen_and_runs_no_more_to_be_chosen_again(
    table: Callable[[], Fastest],
) -> None:
    slow, fast = Way(0.05), Way()
    times = table()
    assert times.chosen("a product") is None
    assert times.choose("a product", {"slow": slow, "fast": fast}) == "fast"
    runs = fast.runs
    assert times.choose("a product", {"slow": slow, "fast": fast}) == "fast"
    assert times.chosen("a product") == "fast"
    assert times.chosen("another product") is None
    assert fast.runs == runs > 0


def test_the_next_process_finds_what_was_measured(table: Callable[[], Fastest]) -> None:
    table().choose("a product", {"slow": Way(0.05), "fast": Way()})
    again = Way(), Way()
    assert table().choose("a product", dict(zip(("slow", "fast"), again, strict=True))) == "fast"
    assert [way.runs for way in again] == [0, 0]


def test_another_machine_or_other_ways_are_measured_anew(
    table: Callable[[], Fastest], tmp_path: Path
) -> None:
    table().choose("a product", {"slow": Way(0.05), "fast": Way()})
    other = Way()
    Fastest(tmp_path, "another machine", CPU).choose("a product", {"slow": other, "fast": Way()})
    assert other.runs > 0
    third = Way()
    assert table().choose("a product", {"slow": Way(0.05), "third": third}) == "third"


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "{",
        "[]",
        '{"machine": "a machine"}',
        '{"machine": "a machine", "times": {"a product": 3}}',
        '{"machine": "a machine", "times": {"a product": {"slow": "x", "fast": 1}}}',
    ],
)
def test_a_damaged_file_counts_as_none(table: Callable[[], Fastest], damaged: str) -> None:
    table().file.write_text(damaged)
    slow = Way(0.05)
    assert table().choose("a product", {"slow": slow, "fast": Way()}) == "fast"
    assert slow.runs > 0
    assert set(json.loads(table().file.read_text())["times"]["a product"]) == {"slow", "fast"}


def test_what_can_not_run_is_left_out_and_known_to_be(table: Callable[[], Fastest]) -> None:
    broken = Way(error=RuntimeError("no kernel for this shape"))
    ways = {"broken": broken, "slow": Way(0.01)}
    assert table().choose("a product", ways) == "slow"
    assert table().choose("a product", ways) == "slow"
    assert broken.runs == 1
    assert table().choose("nothing runs", {"first": broken, "second": broken}) == "first"


def test_a_way_that_found_no_memory_is_tried_again_by_the_next_process(
    table: Callable[[], Fastest],
) -> None:
    greedy = Way(error=torch.OutOfMemoryError("no memory"))
    ways = {"greedy": greedy, "slow": Way(0.01)}
    times = table()
    assert times.choose("a product", ways) == "slow"
    assert times.chosen("a product") == "slow"
    greedy.error = None
    assert table().choose("a product", ways) == "greedy"


def test_two_processes_keep_what_the_other_measured(table: Callable[[], Fastest]) -> None:
    one, other = table(), table()
    one.choose("a product", {"a": Way()})
    other.choose("attention", {"a": Way()})
    assert set(table().times) == {"a product", "attention"}
    assert [path.name for path in table().file.parent.iterdir()] == [table().file.name]


def test_a_folder_that_is_a_file_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    times = Fastest(tmp_path / "file", "a machine", CPU)
    assert times.choose("a product", {"slow": Way(0.05), "fast": Way()}) == "fast"


def test_real_products_of_a_cpu_are_chosen_from(table: Callable[[], Fastest]) -> None:
    small, large = torch.rand(8, 8), torch.rand(700, 700)
    ways = {"large": lambda: large @ large, "small": lambda: small @ small}
    assert table().choose("a product", ways) == "small"


def test_a_cpu_is_described_by_what_times_depend_on() -> None:
    assert f"{torch.get_num_threads()} threads" in describe(CPU)
    assert torch.__version__ in describe(CPU)
