from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.jobs.job import Job, new_id
from service.jobs.store import Bounds, JobStore
from service.problems import KeyReused, QueueFull, QuotaExceeded


def job(client: str = "", fingerprint: str = "f", seconds: float = 1.0) -> Job:
    now = time.time()
    return Job(new_id(), client, fingerprint, 2, seconds, now + 60, now)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    store = JobStore(tmp_path / "jobs.sqlite3", Bounds(4, 100.0))
    yield store
    store.close()


def test_jobs_are_claimed_in_the_order_of_their_acceptance(store: JobStore) -> None:
    ids = [store.add(job()).id for _ in range(3)]
    assert [waiting.id for waiting in store.ahead(ids[2])] == ids[:2]
    claimed = [found.id for found in (store.claim(), store.claim(), store.claim()) if found]
    assert claimed == ids
    assert store.claim() is None


def test_the_queue_is_bounded_in_jobs_and_in_predicted_seconds(store: JobStore) -> None:
    store.add(job(seconds=60))
    store.add(job(seconds=60))
    with pytest.raises(QueueFull, match="120 seconds of work") as caught:
        store.add(job())
    assert int(caught.value.headers["Retry-After"]) == 20
    first = store.claim()
    assert first is not None
    store.finish(first.id, "succeeded")
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


def test_jobs_outlive_the_process_and_running_ones_are_queued_again(tmp_path: Path, store: JobStore) -> None:
    ids = [store.add(job()).id for _ in range(3)]
    running = store.claim()
    store.cancel(ids[2])
    store.close()
    again = JobStore(tmp_path / "jobs.sqlite3", Bounds(4, 100.0))
    again.recover()
    assert running is not None
    assert [found.id for found in again.waiting()] == ids[:2]
    assert [found.state for found in again.waiting()] == ["queued", "queued"]
    assert [found.state for found in again.ended()] == ["cancelled"]
    again.close()


def test_a_job_that_ends_the_process_three_times_is_not_tried_again(store: JobStore) -> None:
    id = store.add(job()).id
    for _ in range(3):
        assert store.claim() is not None
        store.recover()
    found = store.get(id)
    assert found is not None
    assert found.state == "failed"
    assert found.problem is not None
    assert found.problem["type"] == "/problems/interrupted"


def test_a_shutdown_costs_no_attempt(store: JobStore) -> None:
    id = store.add(job()).id
    for _ in range(5):
        store.claim()
        store.requeue(id)
    found = store.get(id)
    assert found is not None
    assert (found.state, found.attempts, found.started) == ("queued", 0, None)


def test_the_same_key_gives_the_same_job_and_another_request_is_refused(store: JobStore) -> None:
    first = store.add(job(fingerprint="a"), key="k")
    assert store.add(job(fingerprint="a"), key="k") == first
    assert store.known("", "a", "k", reuse=False) == first
    with pytest.raises(KeyReused):
        store.add(job(fingerprint="b"), key="k")
    assert store.add(job(client="other", fingerprint="b"), key="k").client == "other"


def test_finished_twins_are_reused_within_one_client_only(store: JobStore) -> None:
    first = store.add(job(client="a"))
    assert store.known("a", "f", None, reuse=True) is None  # not finished
    store.claim()
    store.finish(first.id, "succeeded")
    found = store.known("a", "f", "k", reuse=True)
    assert found is not None
    assert found.id == first.id
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


def test_a_clients_quota_is_counted_by_the_hour(store: JobStore) -> None:
    store.add(job(client="a"), hourly=1)
    with pytest.raises(QuotaExceeded) as caught:
        store.add(job(client="a"), hourly=1)
    assert 3500 < int(caught.value.headers["Retry-After"]) <= 3601
    store.add(job(client="b"), hourly=1)


def test_pages_lead_from_the_newest_to_the_oldest(store: JobStore) -> None:
    ids = [store.add(job()).id for _ in range(4)]
    first = store.page("", 3, None, None)
    assert [found.id for found in first] == ids[:0:-1]
    assert [found.id for found in store.page("", 3, first[-1].id, None)] == ids[:1]
    assert store.page("other", 3, None, None) == []
    assert store.page("", 3, None, "failed") == []


def test_cancelling_a_running_job_only_asks_for_it(store: JobStore) -> None:
    id = store.add(job()).id
    store.claim()
    asked = store.cancel(id)
    assert asked is not None
    assert asked.state == "cancelling"
    store.finish(id, "cancelled")
    again = store.cancel(id)
    assert again is not None
    assert again.state == "cancelled"


def test_adding_from_many_threads_keeps_the_bound_and_one_job_per_key(store: JobStore) -> None:
    added, refused = [], []

    def add() -> None:
        try:
            added.append(store.add(job(), key="same").id)
            added.append(store.add(job(fingerprint=new_id())).id)
        except QueueFull as problem:
            refused.append(problem)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(added)) == len(store.waiting()) == 4
    assert len(refused) == 5
