from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from service.inference.engine import Engine
from service.inference.models import Models
from service.settings import Settings
from tests.service.inference.test_engine import batch
from tests.service.running import PATIENCE


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


def test_a_pass_of_one_model_begins_and_ends_while_another_one_is_loaded(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    b, c = models.engines["b"], models.engines["c"]
    load = c.load

    def slow_load() -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        load()

    def run(name: str) -> None:
        with models.loaded(name) as engine:
            engine.infer(batch(engine))

    monkeypatch.setattr(c, "load", slow_load)
    loading, working = (threading.Thread(target=run, args=(name,)) for name in ("c", "b"))
    loading.start()
    assert begun.wait(PATIENCE)
    predicted = b.planner.model.predict(1, 96, 96)
    working.start()
    working.join(PATIENCE)
    assert not working.is_alive()
    assert there(models) == {"b"}
    assert models.replicas == {"running": 1, "starting": 1}
    assert b.planner.model.predict(1, 96, 96) == predicted, "nothing is learnt beside a load"
    go_on.set()
    loading.join(PATIENCE)
    assert there(models) == {"b", "c"}
    run("b")
    assert b.planner.model.predict(1, 96, 96) != predicted


def test_who_comes_while_a_model_is_loaded_waits_for_it_and_does_not_load_it_again(
    models: Models,
) -> None:
    loads: list[str] = []
    models.on_load = loads.append
    found = []

    def run() -> None:
        with models.loaded("c") as engine:
            found.append(engine.ready)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert (found, loads) == ([True] * 4, ["c"])


def test_room_is_left_beside_a_pass_for_every_model_that_may_be_loaded(models: Models) -> None:
    budgets = [engine.planner.budget for engine in models.engines.values()]
    assert None not in budgets
    assert len(set(budgets)) == 1
