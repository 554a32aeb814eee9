from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from service.errors import FetchFailed, QueueFull
from service.jobs import batches
from service.jobs.batches import BatchStore, SceneRequest, Standing
from service.jobs.bounds import Bounds
from service.jobs.database import Database
from service.jobs.job import Job, new_id
from service.jobs.store import JobStore


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    place: Any = tmp_path / "jobs.sqlite3"
    if request.param == "postgresql":
        url = make_url(request.getfixturevalue("postgres").url())
        place = url.set(drivername="postgresql+psycopg")
    database = Database(place)
    yield database
    database.close()


SCENES = [
    SceneRequest("kitchen", ("https://a/1.png", "https://a/2.png"), {"mode": "pad"}),
    SceneRequest("hall"),
]


@pytest.mark.parametrize("id", ["\0", "0" * 31 + "\0"])
def test_what_is_no_id_names_no_batch(database: Database, id: str) -> None:
    assert BatchStore(database).get(id) is None


def test_a_table_comes_back_as_it_was_sent(database: Database) -> None:
    store = BatchStore(database)
    batch = store.add("alice", SCENES)
    assert store.get(batch.id) == batch
    kitchen, hall = store.scenes(batch.id)
    assert (kitchen.name, kitchen.urls, kitchen.options) == (
        "kitchen", ("https://a/1.png", "https://a/2.png"), {"mode": "pad"},
    )  # fmt: skip
    assert (kitchen.standing, hall.standing) == (Standing.WAITING, Standing.EXPECTED)
    assert store.page("alice", 5, None) == [batch]
    assert store.page("bob", 5, None) == []


def test_a_scene_is_taken_once_until_it_is_due_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BatchStore(database)
    batch = store.add("", SCENES)
    ((found, scene),) = store.take(5)
    assert (found, scene.number) == (batch, 0)
    assert store.take(5) == []
    store.later(scene, FetchFailed("not now"), -1.0)
    ((_, again),) = store.take(5)
    assert again.problem is not None
    assert again.problem["code"] == "fetch-failed"


def test_scenes_are_taken_by_age_and_few_of_each_client(database: Database) -> None:
    store = BatchStore(database)
    first, second = store.add("alice", [SCENES[0]] * 3), store.add("bob", [SCENES[0]])
    taken = store.take(5)
    assert [(batch, scene.number) for batch, scene in taken] == [
        (first, 0), (first, 1), (second, 0),
    ]  # fmt: skip
    assert store.take(5, ["alice", "alice"]) == []
    ((batch, scene),) = store.take(5, ["alice"])
    assert (batch, scene.number) == (first, 2)


def test_after_a_start_of_the_only_process_what_was_being_started_is_due(tmp_path: Path) -> None:
    database = Database(tmp_path / "jobs.sqlite3")
    BatchStore(database).add("", SCENES)
    assert len(BatchStore(database).take(5)) == 1
    store = BatchStore(database)
    store.recover()
    assert len(store.take(5)) == 1
    database.close()


def test_what_an_earlier_attempt_says_is_not_recorded(database: Database) -> None:
    store = BatchStore(database)
    store.add("", SCENES)
    ((_, first),) = store.take(5)
    store.again([first])
    assert not store.started(first, "job")
    ((_, second),) = store.take(5)
    assert first.key != second.key
    assert store.started(second, "job")
    store.forget(second.batch)
    assert not store.started(second, "job")


def test_old_batches_go_once_their_jobs_are_gone_and_nothing_waits(database: Database) -> None:
    store, jobs = BatchStore(database), JobStore(database, Bounds(4, 100.0))
    kept, gone, waiting = (store.add("", [scene]) for scene in (SCENES[1], SCENES[1], SCENES[0]))
    job = jobs.add(Job(new_id(), "", "f", 1, 1.0, time.time() + 60, time.time()))
    (scene,) = store.scenes(kept.id)
    store.started(scene, job.id)
    store.tidy(3600.0)
    assert store.get(gone.id) == gone
    store.tidy(0.0)
    assert store.get(gone.id) is None
    assert store.scenes(gone.id) == []
    assert (store.get(kept.id), store.get(waiting.id)) == (kept, waiting)


def test_the_oldest_go_where_there_are_too_many(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_KEPT", 2)
    store = BatchStore(database)
    made = [store.add("", [SCENES[1]]) for _ in range(4)]
    store.tidy(None)
    assert store.page("", 9, None) == made[:1:-1]


def test_not_everything_may_wait(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_MOST_WAITING", 2)
    store = BatchStore(database)
    store.add("", [SCENES[0]])
    with pytest.raises(QueueFull, match="1 scenes of batches"):
        store.add("", [SCENES[0], SCENES[0]])
