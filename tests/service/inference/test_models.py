from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from service.inference.engine import Engine
from service.inference.models import Models
from service.settings import Settings


@pytest.fixture
def models(artifact: Path) -> Models:
    """Three models, of which two may be loaded at a time."""
    names = tuple(f"{name}={artifact}" for name in "abc")
    size = Engine(Settings.of(artifact=artifact).inference).bytes
    settings = Settings.of(artifact=artifact, model=names, model_memory=2 * size)
    models = Models.of(settings, Engine)
    models.load()
    return models


def there(models: Models) -> set[str]:
    return {name for name, engine in models.engines.items() if engine.ready}


def test_all_are_measured_at_the_start_and_the_usual_one_is_there(models: Models) -> None:
    assert models.ready
    assert there(models) == {"a", "b"}
    seconds = [
        engine.planner.model.predict(4, 96, 96).seconds for engine in models.engines.values()
    ]
    assert all(each > 0 for each in seconds)
    assert models.seconds_to_load(models.engines["a"]) == 0
    assert models.seconds_to_load(models.engines["c"]) > 0


def test_the_one_unused_for_longest_leaves(models: Models) -> None:
    with models.loaded("b"):
        pass
    with models.loaded("c"):
        assert there(models) == {"b", "c"}
    with models.loaded("a"):
        assert there(models) == {"a", "c"}


def test_one_that_is_in_use_stays_and_a_further_one_waits_for_its_end(models: Models) -> None:
    arrived = threading.Event()

    def use() -> None:
        with models.loaded("c"):
            arrived.set()

    waiting = threading.Thread(target=use)
    with models.loaded("a"), models.loaded("b"):
        waiting.start()
        time.sleep(0.1)
        assert not arrived.is_set()
        assert there(models) == {"a", "b"}
    assert arrived.wait(30)
    waiting.join()
    assert "c" in there(models)


def test_room_is_left_beside_a_pass_for_every_model_that_may_be_loaded(models: Models) -> None:
    budgets = [engine.planner.budget for engine in models.engines.values()]
    assert None not in budgets
    assert len(set(budgets)) == 1
