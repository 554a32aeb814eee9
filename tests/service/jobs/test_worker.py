from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.errors import OutOfMemory, StorageFull
from service.jobs.bounds import Bounds
from service.jobs.database import Database
from service.jobs.events import Events
from service.jobs.retention import Retention
from service.jobs.store import JobStore
from service.jobs.worker import Watchdog, Worker
from service.pipeline.task import Task
from service.settings import StorageSettings
from service.states import JobState
from service.storage.folder import Storage
from service.telemetry.metrics import Metrics
from tests.service.jobs.test_store import job
from tests.service.running import wait_until


@dataclass
class Bench:
    """A worker whose work a test gives."""

    store: JobStore
    worker: Worker
    work: Any
    storage: Storage
    database: Database

    def state(self, id: str) -> str:
        found = self.store.get(id)
        return "" if found is None else found.state

    def run(self, todo: Callable[[Task, Any], dict[str, float]], **fields: Any) -> str:
        self.work.do = todo
        id = self.store.add(replace(job(), **fields)).id
        self.worker.notify()
        return id


class _Work:
    do: Callable[[Task, Any], dict[str, float]]


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    storage = Storage(tmp_path)
    database = Database(storage.database)
    store = JobStore(database, Bounds(10, 1e9))
    work: Any = _Work()
    retention = Retention(store, storage, StorageSettings())
    worker = Worker(
        store, storage, work, retention, Events(), Metrics("cpu", 10), getattr(request, "param", 1)
    )
    worker.start()
    yield Bench(store, worker, work, storage, database)
    worker.stop(0.1)
    store.close()
    storage.close()


def test_problems_and_surprises_are_recorded_and_the_next_job_runs(bench: Bench) -> None:
    def refuse(task: Task, report: Any) -> dict[str, float]:
        raise OutOfMemory("No room.", pictures=3)

    def surprise(task: Task, report: Any) -> dict[str, float]:
        raise KeyError("secret")

    first = bench.run(refuse)
    wait_until(lambda: bench.state(first) == "failed")
    second = bench.run(surprise)
    wait_until(lambda: bench.state(second) == "failed")
    third = bench.run(lambda job, report: {})
    wait_until(lambda: bench.state(third) == "succeeded")
    problems = [found.problem or {} for found in map(bench.store.get, (first, second)) if found]
    assert problems[0]["fields"] == {"pictures": 3}
    assert problems[1]["code"] == "internal-error"
    assert "secret" not in str(problems[1])


def test_a_running_job_is_cancelled_at_its_next_step(bench: Bench) -> None:
    entered = threading.Event()

    def work(task: Task, report: Any) -> dict[str, float]:
        entered.set()
        while True:
            report("aggregator", 0.5)

    id = bench.run(work)
    assert entered.wait(10)
    bench.store.cancel(id)
    bench.worker.cancel(id)
    wait_until(lambda: bench.state(id) == "cancelled")


def test_a_job_past_its_deadline_is_stopped_and_says_where(bench: Bench) -> None:
    def work(task: Task, report: Any) -> dict[str, float]:
        time.sleep(max(soon + 0.01 - time.time(), 0.0))
        report("aggregator", 0.25)
        return {}

    soon = time.time() + 0.2
    id = bench.run(work, deadline=soon)
    wait_until(lambda: bench.state(id) == "failed")
    found = bench.store.get(id)
    assert found is not None
    assert found.problem is not None
    assert found.problem["code"] == "deadline-exceeded"
    assert "25% in stage aggregator" in found.problem["message"]


def test_stopping_finishes_what_runs_and_keeps_what_waits(bench: Bench) -> None:
    go = threading.Event()

    def work(task: Task, report: Any) -> dict[str, float]:
        assert go.wait(10)
        return {}

    running = bench.run(work)
    wait_until(lambda: bench.worker.busy)
    waiting = bench.store.add(job()).id
    threading.Timer(0.1, go.set).start()
    assert bench.worker.stop(10)
    assert (bench.state(running), bench.state(waiting)) == ("succeeded", "queued")


def test_what_does_not_end_in_time_is_put_back(bench: Bench) -> None:
    def work(task: Task, report: Any) -> dict[str, float]:
        while True:
            report("aggregator", 0.5)

    id = bench.run(work)
    wait_until(lambda: bench.worker.busy)
    assert bench.worker.stop(0.05)
    assert bench.state(id) == "queued"


def test_progress_never_goes_back(bench: Bench) -> None:
    seen = []

    def work(task: Task, report: Any) -> dict[str, float]:
        for share in (0.1, 0.5, 0.3):
            report("aggregator", share)
            activity = bench.worker.activity(task.id)
            assert activity is not None
            seen.append(activity.progress)
        return {}

    id = bench.run(work)
    wait_until(lambda: bench.state(id) == "succeeded")
    assert seen == [0.1, 0.5, 0.5]


@pytest.mark.parametrize("bench", [3], indirect=True)
def test_several_lanes_work_on_as_many_jobs_at_a_time(bench: Bench) -> None:
    together = threading.Barrier(3)

    def work(task: Task, report: Any) -> dict[str, float]:
        report("aggregator", 0.5)
        together.wait(10)  # breaks unless three are here
        return {}

    ids = [bench.run(work) for _ in range(6)]
    wait_until(lambda: [bench.state(id) for id in ids] == ["succeeded"] * 6)
    wait_until(lambda: not bench.worker.busy)  # just after the answer


def test_the_watchdog_barks_once_when_nothing_moves(bench: Bench) -> None:
    go, barks = threading.Event(), []

    def work(task: Task, report: Any) -> dict[str, float]:
        assert go.wait(10)
        return {}

    watchdog = Watchdog(bench.worker, 0.1, lambda: barks.append(1))
    watchdog.start()
    assert not watchdog.stalled
    bench.run(work)
    wait_until(lambda: watchdog.stalled)
    go.set()
    assert barks == [1]


def test_a_database_that_another_process_holds_is_waited_for(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.run(lambda task, report: {})
    other = sqlite3.connect(bench.storage.database, isolation_level=None)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("BEGIN IMMEDIATE")
    wait_until(lambda: "no job is taken up now" in caplog.text)
    other.execute("ROLLBACK")
    other.close()
    id = ""

    def added() -> bool:
        nonlocal id
        try:
            id = bench.run(lambda task, report: {})
        except Exception:
            return False
        return True

    wait_until(added)
    wait_until(lambda: bench.state(id) == "succeeded")
    assert not bench.worker.dead


def test_whatever_the_database_raises_the_worker_takes_up_the_next_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Event()

    def fail(*arguments: Any) -> None:
        tried.set()
        raise RuntimeError("odd")

    monkeypatch.setattr(bench.store, "claim", fail)
    bench.worker.notify()
    assert tried.wait(10)
    monkeypatch.undo()
    id = bench.run(lambda task, report: {})
    wait_until(lambda: bench.state(id) == "succeeded")


def test_a_result_that_can_not_be_recorded_for_want_of_room_is_recorded_when_there_is_room(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def limit(pages: int) -> None:
        with bench.database.transaction() as connection:
            connection.execute(text(f"PRAGMA max_page_count = {pages}"))

    def fill(task: Task, report: Any) -> dict[str, float]:
        limit(1)  # the database can't grow
        try:
            while True:
                bench.store.add(replace(job(), state=JobState.CANCELLED, fingerprint="x" * 9000))
        except StorageFull:
            pass
        raise OutOfMemory("x" * 20_000)  # a problem that needs room in the database

    id = bench.run(fill)
    wait_until(lambda: "The database of jobs has no room" in caplog.text)
    assert bench.state(id) == "running"
    limit(1_000_000)
    wait_until(lambda: bench.state(id) == "failed")
    following = bench.run(lambda task, report: {})
    wait_until(lambda: bench.state(following) == "succeeded")


def test_without_room_for_results_jobs_wait_until_there_is_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bench.storage, "min_free_bytes", 2**62)
    wait_until(lambda: "no job is taken up now" in caplog.text)
    id = bench.run(lambda task, report: {})
    assert bench.state(id) == "queued"
    monkeypatch.undo()
    wait_until(lambda: bench.state(id) == "succeeded")


def test_what_fails_after_the_work_ends_the_job_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> int:
        raise PermissionError(name)

    monkeypatch.setattr(bench.storage, "size", fail)
    id = bench.run(lambda task, report: {})
    wait_until(lambda: bench.state(id) == "failed")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(*arguments: Any) -> None:
        raise SystemExit  # the silent way for a thread to end

    barks: list[int] = []
    assert not bench.worker.dead
    monkeypatch.setattr(bench.store, "claim", end)
    bench.worker.notify()
    wait_until(lambda: bench.worker.dead)
    watchdog = Watchdog(bench.worker, 0.1, lambda: barks.append(1))
    watchdog.start()
    wait_until(lambda: barks == [1])


def test_a_thread_that_is_stuck_between_two_jobs_is_noticed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def hang(*arguments: Any) -> None:
        go.wait(60)

    monkeypatch.setattr(bench.store, "claim", hang)
    watchdog = Watchdog(bench.worker, 3.0, lambda: None)
    watchdog.start()
    wait_until(lambda: watchdog.stalled)
    go.set()
