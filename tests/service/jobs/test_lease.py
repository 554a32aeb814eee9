from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.errors import StoreUnavailable
from service.jobs.bounds import Bounds
from service.jobs.database import Database
from service.jobs.events import Event, Events
from service.jobs.job import Job
from service.jobs.lease import Follower, Heartbeat
from service.jobs.retention import Retention
from service.jobs.store import JobStore
from service.jobs.worker import Worker
from service.pipeline.task import Task
from service.settings import StorageSettings
from service.states import JobState
from service.storage.folder import Storage
from service.telemetry.metrics import Metrics
from tests.service.jobs.test_store import job
from tests.service.running import wait_until


class _Work:
    """Work that goes on until it is told to end."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        self.failures: list[Exception] = []

    def do(self, task: Task, report: Any) -> dict[str, float]:
        if self.failures:
            raise self.failures.pop()
        while not self.go.wait(0.01):
            report("aggregator", 0.5)
            self.entered.set()
        return {}


@dataclass
class Replica:
    """One replica's worker and what it tells the others. Its heart beats when the test says so."""

    store: JobStore
    worker: Worker
    work: _Work
    events: Events
    heartbeat: Heartbeat
    storage: Storage


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [1000.0]
    monkeypatch.setattr(Database, "now", lambda database, connection: time[0])
    return time


@pytest.fixture
def replica(tmp_path: Path, clock: list[float]) -> Iterator[Replica]:
    storage, events, work = Storage(tmp_path), Events(), _Work()
    store = JobStore(Database(storage.database), Bounds(10, 1e9), lease=10.0)
    retention = Retention(store, storage, StorageSettings())
    worker = Worker(store, storage, work, retention, events, Metrics("cpu", 10))  # type: ignore[arg-type]
    worker.start()
    yield Replica(store, worker, work, events, Heartbeat(store, worker, events), storage)
    work.go.set()
    worker.stop(5)
    store.close()
    storage.close()


def begun(replica: Replica) -> str:
    id = replica.store.add(job()).id
    replica.worker.notify()
    assert replica.work.entered.wait(10)
    return id


def state(replica: Replica, id: str) -> str:
    found = replica.store.get(id)
    assert found is not None
    return found.state


def test_a_beat_keeps_what_runs_and_records_how_far_it_is(
    replica: Replica, clock: list[float]
) -> None:
    id = begun(replica)
    for _ in range(3):
        clock[0] += 8
        replica.heartbeat.beat()
        assert replica.store.claim("other") is None
    found = replica.store.get(id)
    assert found is not None
    assert (found.stage, found.progress) == ("aggregator", 0.5)
    assert 0 < found.event <= replica.events.last_number(id)  # it goes on meanwhile
    replica.work.go.set()
    wait_until(lambda: state(replica, id) == "succeeded")


def test_a_beat_passes_on_that_the_job_was_cancelled_elsewhere(replica: Replica) -> None:
    id = begun(replica)
    replica.store.cancel(id)
    replica.heartbeat.beat()
    wait_until(lambda: state(replica, id) == "cancelled")


def test_who_slept_through_its_lease_stops_and_leaves_the_others_work_alone(
    replica: Replica, clock: list[float]
) -> None:
    id = begun(replica)
    clock[0] += 11
    taken = replica.store.claim("other")
    assert taken is not None
    replica.heartbeat.beat()
    wait_until(lambda: not replica.worker.busy)
    assert replica.store.get(id) == taken
    assert replica.store.finish(taken, JobState.SUCCEEDED) is not None


def test_who_slept_through_its_lease_and_does_not_know_it_publishes_nothing(
    replica: Replica, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    id = begun(replica)
    clock[0] += 11
    taken = replica.store.claim("other")
    assert taken is not None
    (replica.storage.root / "results" / f"{id}-1").mkdir()  # what it has made
    replica.work.go.set()
    wait_until(lambda: "another replica" in caplog.text)
    wait_until(lambda: list((replica.storage.root / "results").iterdir()) == [])
    assert replica.store.get(id) == taken


def test_what_cannot_be_reached_puts_the_job_back_without_costing_an_attempt(
    replica: Replica,
) -> None:
    replica.work.failures = [StoreUnavailable("away")] * 4  # more often than a job may be tried
    id = begun(replica)
    found = replica.store.get(id)
    assert found is not None
    assert (found.state, found.attempts, found.token) == ("running", 1, 5)


def test_an_end_is_recorded_as_soon_as_the_database_is_back(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = begun(replica)
    finish, outages = replica.store.finish, [StoreUnavailable("away")]

    def away(*arguments: Any) -> Job | None:
        if outages:
            raise outages.pop()
        return finish(*arguments)

    monkeypatch.setattr(replica.store, "finish", away)
    replica.work.go.set()
    wait_until(lambda: state(replica, id) == "succeeded")
    assert not outages


def test_what_runs_elsewhere_is_told_to_those_who_follow_it_here(replica: Replica) -> None:
    id = begun(replica)
    events = Events()  # of another replica, which shares the store
    other = Worker(replica.store, replica.storage, None, None, events, Metrics("cpu", 1))  # type: ignore[arg-type]
    follower = Follower(replica.store, other, events)

    async def follow() -> list[Event]:
        events.attach(asyncio.get_running_loop())
        follower.look()
        assert events.last_number(id) == 0, "nobody asks about it"
        seen: list[Event] = []

        async def read() -> None:
            async for event in events.follow(id, 0, None):
                assert event is not None
                seen.append(event)

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.01)
        for act in (lambda: None, replica.heartbeat.beat, lambda: None, replica.work.go.set):
            act()
            if replica.work.go.is_set():
                await asyncio.to_thread(wait_until, lambda: state(replica, id) == "succeeded")
            follower.look()
            await asyncio.sleep(0.01)
        await asyncio.wait_for(reading, 10)
        return seen

    seen = asyncio.run(follow())
    assert [event.kind for event in seen] == ["state", "progress", "end"]
    assert seen[1].data == {"state": "running", "stage": "aggregator", "progress": 0.5}
    recorded = replica.store.get(id)
    assert recorded is not None
    assert seen[-1].number == recorded.event == replica.events.last_number(id)


def test_chunks_that_are_finished_elsewhere_are_told_here_with_their_numbers(
    replica: Replica,
) -> None:
    id = begun(replica)
    events = Events()  # of another replica, which shares the store
    other = Worker(replica.store, replica.storage, None, None, events, Metrics("cpu", 1))  # type: ignore[arg-type]
    follower = Follower(replica.store, other, events)

    def finish(*numbers: int) -> None:
        for number in numbers:
            replica.events.publish(id, "chunk", {"state": JobState.RUNNING, "chunk": number})
        replica.heartbeat.beat()

    async def follow() -> list[Event]:
        events.attach(asyncio.get_running_loop())
        seen: list[Event] = []

        async def read() -> None:
            async for event in events.follow(id, 0, None):
                assert event is not None
                seen.append(event)

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.01)
        for numbers in ((0, 1), (2,), (), (0,)):  # the last one was worked on anew
            finish(*numbers)
            follower.look()
        replica.work.go.set()
        await asyncio.to_thread(wait_until, lambda: state(replica, id) == "succeeded")
        follower.look()
        await asyncio.wait_for(reading, 10)
        return seen

    seen = [event for event in asyncio.run(follow()) if event.kind == "chunk"]
    assert [event.data["chunk"] for event in seen] == [0, 1, 2, 0]
    _, own = replica.events.chunks(id)
    assert seen == own
    assert replica.store.chunks({id: 0}) == {id: []}, "what is over is no longer on record"


def test_who_comes_late_is_told_of_every_chunk_once(replica: Replica) -> None:
    id = begun(replica)
    for number in (0, 1, 0):
        replica.events.publish(id, "chunk", {"state": JobState.RUNNING, "chunk": number})
        replica.heartbeat.beat()
    _, own = replica.events.chunks(id)
    assert replica.store.chunks({id: 0}) == {id: own[1:]}
    assert replica.store.chunks({id: own[1].number}) == {id: own[2:]}


def test_who_follows_a_job_that_is_forgotten_elsewhere_is_sent_home(replica: Replica) -> None:
    id = replica.store.add(job()).id
    replica.store.cancel(id)
    replica.store.forget(id)
    events = Events()
    follower = Follower(replica.store, replica.worker, events)

    async def follow() -> Event | None:
        events.attach(asyncio.get_running_loop())
        waiting = asyncio.create_task(events.wait_for_end(id, 10))
        await asyncio.sleep(0.01)
        follower.look()
        return await waiting

    assert asyncio.run(follow()) is None
