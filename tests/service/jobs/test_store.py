from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from service.errors import KeyReused, QueueFull
from service.jobs.bounds import Bounds, Held
from service.jobs.database import Database
from service.jobs.job import Job, new_id
from service.jobs.store import JobStore
from service.states import JobState

LEASE = 60.0


def job(client: str = "", fingerprint: str = "f", seconds: float = 1.0) -> Job:
    now = time.time()
    return Job(new_id(), client, fingerprint, 2, seconds, now + 60, now)


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], JobStore]]:
    """Opens a store, each time the same one. On PostgreSQL jobs are leased."""
    stores = []
    if request.param == "postgresql":
        place: Any = make_url(request.getfixturevalue("postgres").url()).set(
            drivername="postgresql+psycopg"
        )
    else:
        place = tmp_path / "jobs.sqlite3"

    def open() -> JobStore:
        stores.append(
            JobStore(
                Database(place), Bounds(4, 100.0), LEASE if request.param == "postgresql" else None
            )
        )
        return stores[-1]

    yield open
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Callable[[], JobStore]) -> JobStore:
    return opened()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[JobStore]:
    """The store of a process by itself."""
    store = JobStore(Database(tmp_path / "jobs.sqlite3"), Bounds(4, 100.0))
    yield store
    store.close()


def claimed(store: JobStore, worker: str = "") -> Job:
    found = store.claim(worker)
    assert found is not None
    return found


def found(store: JobStore, id: str) -> Job:
    job = store.get(id)
    assert job is not None
    return job


def test_jobs_are_claimed_in_the_order_of_their_acceptance(store: JobStore) -> None:
    ids = [store.add(job()).id for _ in range(3)]
    assert [waiting.id for waiting in store.ahead(ids[2])] == ids[:2]
    assert [claimed(store).id for _ in range(3)] == ids
    assert store.claim() is None


@pytest.mark.parametrize("id", ["\0", "0" * 31 + "\0", "", "x" * 10_000, "é"])
def test_what_is_no_id_names_no_job(store: JobStore, id: str) -> None:
    assert store.get(id) is None


def test_the_queue_is_bounded_in_jobs_and_in_predicted_seconds(store: JobStore) -> None:
    store.add(job(seconds=60))
    store.add(job(seconds=60))
    with pytest.raises(QueueFull, match="120 seconds of work") as caught:
        store.add(job())
    assert caught.value.retry_after == 20
    store.finish(claimed(store), JobState.SUCCEEDED)
    for _ in range(3):
        store.add(job())
    with pytest.raises(QueueFull, match="4 requests"):
        store.add(job())
    with pytest.raises(QueueFull):
        store.check_room(0)


def test_a_job_longer_than_the_bound_is_taken_when_nothing_waits(store: JobStore) -> None:
    store.add(job(seconds=1000))
    with pytest.raises(QueueFull):
        store.add(job())


def test_uploads_count_before_they_are_jobs(store: JobStore) -> None:
    store.add(job())
    store.check_room(2)
    with pytest.raises(QueueFull):
        store.check_room(3)


def test_jobs_outlive_the_process_and_running_ones_are_queued_again(
    tmp_path: Path, embedded: JobStore
) -> None:
    ids = [embedded.add(job()).id for _ in range(3)]
    claimed(embedded)
    embedded.cancel(ids[2])
    embedded.close()
    again = JobStore(Database(tmp_path / "jobs.sqlite3"), Bounds(4, 100.0))
    again.recover()
    assert [found.id for found in again.waiting()] == ids[:2]
    assert [found.state for found in again.waiting()] == ["queued", "queued"]
    assert [found.state for found in again.ended()] == ["cancelled"]
    again.close()


def test_a_job_that_ends_the_process_three_times_is_not_tried_again(embedded: JobStore) -> None:
    id = embedded.add(job()).id
    for _ in range(3):
        claimed(embedded)
        embedded.recover()
    last = found(embedded, id)
    assert last.state == "failed"
    assert last.problem is not None
    assert last.problem["code"] == "interrupted"


def test_a_shutdown_costs_no_attempt(store: JobStore) -> None:
    id = store.add(job()).id
    for _ in range(5):
        store.requeue(claimed(store))
    last = found(store, id)
    assert (last.state, last.attempts, last.started) == ("queued", 0, None)


def test_the_same_key_gives_the_same_job_and_another_request_is_refused(store: JobStore) -> None:
    first = store.add(job(fingerprint="a"), key="k")
    assert store.add(job(fingerprint="a"), key="k") == first
    assert store.known("", "a", "k", reuse=False) == first
    with pytest.raises(KeyReused):
        store.add(job(fingerprint="b"), key="k")
    assert store.add(job(client="other", fingerprint="b"), key="k").client == "other"


@pytest.mark.parametrize("end", [JobState.FAILED, JobState.CANCELLED])
def test_a_key_whose_job_did_not_succeed_starts_another_one(store: JobStore, end: JobState) -> None:
    first = store.add(job(fingerprint="a"), key="k")
    store.finish(claimed(store), end)
    with pytest.raises(KeyReused):
        store.add(job(fingerprint="b"), key="k")
    assert store.known("", "a", "k", reuse=False) is None
    second = store.add(job(fingerprint="a"), key="k")
    assert second.id != first.id
    assert store.add(job(fingerprint="a"), key="k") == second


def test_finished_twins_are_reused_within_one_client_only(store: JobStore) -> None:
    first = store.add(job(client="a"))
    assert store.known("a", "f", None, reuse=True) is None  # not finished
    store.finish(claimed(store), JobState.SUCCEEDED)
    twin = store.known("a", "f", "k", reuse=True)
    assert twin is not None
    assert twin.id == first.id
    assert store.known("b", "f", None, reuse=True) is None
    assert store.known("a", "f", None, reuse=False) is None
    with pytest.raises(KeyReused):  # the key was bound to the twin
        store.known("a", "g", "k", reuse=True)


def test_a_forgotten_job_frees_its_key(store: JobStore) -> None:
    first = store.add(job(), key="k")
    store.cancel(first.id)
    store.forget(first.id)
    assert store.get(first.id) is None
    assert store.add(job(fingerprint="other"), key="k").id != first.id


def test_what_waits_is_never_forgotten(store: JobStore) -> None:
    id = store.add(job()).id
    store.forget(id)
    assert store.get(id) is not None


def test_pages_lead_from_the_newest_to_the_oldest(store: JobStore) -> None:
    ids = [store.add(job()).id for _ in range(4)]
    first = store.page("", 3, None, None)
    assert [found.id for found in first] == ids[:0:-1]
    assert [found.id for found in store.page("", 3, first[-1].id, None)] == ids[:1]
    assert store.page("other", 3, None, None) == []
    assert store.page("", 3, None, JobState.FAILED) == []


def test_cancelling_a_running_job_only_asks_for_it(store: JobStore) -> None:
    id = store.add(job()).id
    running = claimed(store)
    asked = store.cancel(id)
    assert asked is not None
    assert asked.state == "cancelling"
    ended = store.finish(running, JobState.SUCCEEDED)
    assert ended is not None
    assert ended.state == found(store, id).state == "cancelled"


def test_adding_from_many_threads_keeps_the_bound_and_one_job_per_key(
    opened: Callable[[], JobStore],
) -> None:
    stores = [opened(), opened()]
    added, refused = [], []

    def add(store: JobStore) -> None:
        try:
            added.append(store.add(job(), key="same").id)
            added.append(store.add(job(fingerprint=new_id())).id)
        except QueueFull as problem:
            refused.append(problem)

    together(*(lambda store=stores[i % 2]: add(store) for i in range(8)))
    assert len(set(added)) == stores[0].depth() == 4
    assert len(refused) == 5


def together(*acts: Callable[[], Any]) -> None:
    threads = [threading.Thread(target=act) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_no_job_is_claimed_twice(opened: Callable[[], JobStore]) -> None:
    stores = [opened() for _ in range(4)]
    stores[0].bounds = Bounds(100, 1e9)
    ids = [stores[0].add(job()).id for _ in range(20)]
    taken: list[str] = []

    def take(store: JobStore) -> None:
        while stores[0].depth() > len(taken):
            one = store.claim()
            if one is not None:
                taken.append(one.id)

    together(*(lambda store=store: take(store) for store in stores))
    assert sorted(taken) == sorted(ids)


# Leases


@pytest.fixture
def leased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobStore]:
    """A store whose database has the time `CLOCK`."""
    database = Database(tmp_path / "jobs.sqlite3")
    monkeypatch.setattr(database, "now", lambda connection: CLOCK[0])
    CLOCK[0] = 1000.0
    store = JobStore(database, Bounds(4, 100.0), LEASE)
    yield store
    store.close()


CLOCK = [0.0]


def test_a_job_whose_lease_is_over_is_taken_up_by_another_and_lost_to_the_first(
    leased: JobStore,
) -> None:
    id = leased.add(job()).id
    first = claimed(leased, "a")
    CLOCK[0] += LEASE / 2
    assert leased.renew([first]) == {id: "running"}
    CLOCK[0] += LEASE - 1
    assert leased.claim("b") is None
    CLOCK[0] += 2
    second = claimed(leased, "b")
    assert (second.id, second.worker, second.attempts, second.token) == (id, "b", 2, 2)
    assert first.result != second.result
    assert leased.renew([first]) == {id: None}
    assert leased.finish(first, JobState.SUCCEEDED) is None
    assert leased.requeue(first) is None
    assert found(leased, id) == second
    ended = leased.finish(second, JobState.SUCCEEDED, bytes=7)
    assert ended == found(leased, id)
    assert (ended.result, ended.bytes) == (second.result, 7)


def test_what_was_leased_before_the_databases_clock_was_set_back_is_taken_up_all_the_same(
    leased: JobStore,
) -> None:
    id = leased.add(job()).id
    claimed(leased, "a")
    CLOCK[0] -= LEASE / 2  # less than a lease: its worker may be alive
    assert leased.claim("b") is None
    CLOCK[0] -= 3600
    second = claimed(leased, "b")
    assert (second.id, second.token) == (id, 2)
    assert leased.claim("c") is None
    ended = leased.finish(second, JobState.SUCCEEDED)
    assert ended is not None
    assert (ended.finished or 0) >= ended.created, "not older than it is"


def test_a_lease_that_is_over_still_counts_until_somebody_else_takes_the_job(
    leased: JobStore,
) -> None:
    leased.add(job())
    first = claimed(leased, "a")
    CLOCK[0] += 2 * LEASE
    assert leased.finish(first, JobState.SUCCEEDED) is not None


def test_a_worker_does_not_take_up_again_what_it_still_works_on(leased: JobStore) -> None:
    id = leased.add(job()).id
    claimed(leased, "a")
    CLOCK[0] += 2 * LEASE
    assert leased.claim("a", besides=[id]) is None
    assert claimed(leased, "a").id == id


def test_a_job_that_outlived_three_workers_is_not_tried_again(leased: JobStore) -> None:
    id = leased.add(job()).id
    for _ in range(3):
        claimed(leased)
        CLOCK[0] += 2 * LEASE
    after = leased.add(job()).id
    assert claimed(leased).id == after
    last = found(leased, id)
    assert last.state == "failed"
    assert last.problem is not None
    assert last.problem["code"] == "interrupted"


def test_a_job_that_was_being_cancelled_when_its_worker_went_is_cancelled(leased: JobStore) -> None:
    id = leased.add(job()).id
    running = claimed(leased)
    leased.cancel(id)
    assert leased.renew([running]) == {id: "cancelling"}
    CLOCK[0] += 2 * LEASE
    assert leased.claim() is None
    assert found(leased, id).state == "cancelled"


def test_progress_is_told_with_the_lease_and_events_are_numbered_upwards_whatever_happens(
    leased: JobStore,
) -> None:
    id = leased.add(job()).id
    numbers = [found(leased, id).event]
    running = claimed(leased)
    numbers.append(running.event)
    leased.renew([replace(running, stage="heads", progress=0.5, event=running.event + 100)])
    told = found(leased, id)
    assert (told.stage, told.progress) == ("heads", 0.5)
    numbers.append(told.event)
    back = leased.requeue(running)
    assert back is not None
    assert (back.stage, back.progress) == (None, 0.0)
    numbers.append(back.event)
    ended = leased.cancel(id, after=back.event + 100)
    assert ended is not None
    numbers.append(ended.event)
    assert numbers == sorted(set(numbers))
    assert numbers[-1] > back.event + 100


def test_a_client_holds_no_more_of_the_queue_than_it_leaves_free(tmp_path: Path) -> None:
    store = JobStore(Database(tmp_path / "jobs.sqlite3"), Bounds(8, 1e9))
    taken = {}
    for client in ("a", "b", "c", "d"):
        taken[client] = 0
        while True:
            try:
                store.check_room(0, Held(client, 0, 0))
            except QueueFull:
                break
            store.add(job(client=client))
            taken[client] += 1
    assert taken == {"a": 4, "b": 2, "c": 1, "d": 1}
    store.close()
