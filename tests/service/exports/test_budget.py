from __future__ import annotations

import threading
from typing import Any

import pytest

from service.errors import ExportsBusy
from service.exports.budget import ExportBudget, predicted_bytes
from service.exports.options import MapOptions
from service.exports.records import BY_NAME
from service.result.document import Size
from service.result.scene import Scene
from tests.service.running import wait_until


class Maker(threading.Thread):
    """Holds so many bytes of a budget until it is let go."""

    def __init__(self, budget: ExportBudget, bytes: int, **terms: Any) -> None:
        super().__init__(daemon=True)
        self.take = lambda: budget.taken(bytes, **terms)
        self.made, self.go = threading.Event(), threading.Event()
        self.refused: ExportsBusy | None = None
        self.start()

    def run(self) -> None:
        try:
            with self.take():
                self.made.set()
                self.go.wait(60)
        except ExportsBusy as error:
            self.refused = error


def test_files_are_made_together_while_they_fit_and_the_next_ones_wait() -> None:
    budget = ExportBudget(100)
    first, second = Maker(budget, 60), Maker(budget, 40)
    assert first.made.wait(30)
    assert second.made.wait(30)
    third = Maker(budget, 50)
    assert not third.made.wait(0.1)
    first.go.set()
    assert third.made.wait(30)
    second.go.set()
    third.go.set()


def test_what_is_larger_than_the_budget_is_made_alone() -> None:
    budget = ExportBudget(100)
    small = Maker(budget, 1)
    assert small.made.wait(30)
    large = Maker(budget, 1000)
    assert not large.made.wait(0.1)
    small.go.set()
    assert large.made.wait(30)
    large.go.set()


def test_beyond_those_that_wait_everybody_is_sent_away_and_told_when_to_come_back() -> None:
    budget = ExportBudget(100, waiting=1)
    first = Maker(budget, 100)
    assert first.made.wait(30)
    waiting = Maker(budget, 100)
    wait_until(lambda: budget._waiting == 1)
    with pytest.raises(ExportsBusy) as caught, budget.taken(100):
        pass
    assert caught.value.retry_after
    worker = Maker(budget, 100, insist=True)
    wait_until(lambda: budget._waiting == 2)
    for maker in (first, waiting, worker):
        maker.go.set()
    for maker in (waiting, worker):
        assert maker.made.wait(30)


def test_who_waits_too_long_is_sent_away() -> None:
    budget = ExportBudget(100, patience=0.05)
    first = Maker(budget, 100)
    assert first.made.wait(30)
    second = Maker(budget, 100)
    wait_until(lambda: second.refused is not None)
    first.go.set()


def test_files_that_are_made_for_another_one_belong_to_it() -> None:
    budget = ExportBudget(100, waiting=0)
    with budget.taken(100), budget.taken(100):
        pass
    with budget.taken(100):  # and all was given back
        pass


def test_a_map_is_predicted_by_the_pixels_of_its_grid_and_a_scene_by_its_largest_need(
    scene: Scene,
) -> None:
    document = scene.document
    large = document.pictures[0].model_copy(update={"original_size": Size(height=10, width=10**6)})
    document = document.model_copy(update={"pictures": [large, *document.pictures[1:]]})
    depth, archive = BY_NAME["depth/{index}.png"], BY_NAME["everything.zip"]
    original, network = (
        predicted_bytes(depth, MapOptions(grid=grid), document, 0)
        for grid in ("original", "network")
    )
    assert original >= 10 * 10**7
    assert network < 10**6
    assert predicted_bytes(archive, archive.options(), document, 0) >= original
