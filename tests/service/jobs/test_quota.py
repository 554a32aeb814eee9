from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from service.errors import QuotaExceeded
from service.jobs.bounds import Bounds
from service.jobs.database import Database
from service.jobs.job import Job, new_id
from service.jobs.store import JobStore
from service.keys import Quota, Used
from service.states import JobState

DAY = 24 * 3600


def job(client: str) -> Job:
    now = time.time()
    return Job(new_id(), client, "f", 2, 1.0, now + 60, now)


def claimed(store: JobStore) -> Job:
    found = store.claim()
    assert found is not None
    return found


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobStore]:
    place: Any = tmp_path / "jobs.sqlite3"
    if request.param == "postgresql":
        url = make_url(request.getfixturevalue("postgres").url())
        place = url.set(drivername="postgresql+psycopg")
    store = JobStore(Database(place), Bounds(4, 100.0))
    yield store
    store.close()


def test_a_clients_quota_is_counted_by_the_hour(store: JobStore) -> None:
    store.add(job(client="a"), quota=Quota(1))
    with pytest.raises(QuotaExceeded) as caught:
        store.add(job(client="a"), quota=Quota(1))
    assert 3500 < caught.value.retry_after <= 3601
    store.add(job(client="b"), quota=Quota(1))


def test_a_quota_counts_what_was_started_whatever_became_of_it(store: JobStore) -> None:
    quota = Quota(per_hour=2)
    store.spend("a", quota, time.time(), 1.0, 1)  # a dry run
    first = store.add(job(client="a"), quota=quota)
    taken = claimed(store)
    store.finish(taken, JobState.SUCCEEDED)
    store.forget(first.id)
    with pytest.raises(QuotaExceeded) as caught:
        store.add(job(client="a"), quota=quota)
    assert 0 < (caught.value.retry_after or 0) <= 3600
    with pytest.raises(QuotaExceeded):
        store.spend("a", quota, time.time(), 1.0, 1)
    store.spend("a", quota, time.time() + 3601, 1.0, 1)  # an hour later


def test_a_clock_that_is_set_back_does_not_lock_a_client_out(store: JobStore) -> None:
    quota, now = Quota(per_hour=1), time.time()
    store.spend("a", quota, now + 24 * 3600, 1.0, 1)
    store.spend("a", quota, now, 1.0, 1)
    with pytest.raises(QuotaExceeded):
        store.spend("a", quota, now + 1, 1.0, 1)


def test_a_quota_of_megapixels_counts_every_picture_that_was_decoded(store: JobStore) -> None:
    quota, now = Quota(megapixels_per_hour=10.0), time.time()
    store.spend("a", quota, now, 6.0, 0)
    with pytest.raises(QuotaExceeded, match="10 megapixels"):
        store.spend("a", quota, now, 5.0, 0)
    store.spend("a", quota, now, 4.0, 0)
    store.add(job(client="a"), quota=quota)  # of the last ones
    with pytest.raises(QuotaExceeded):
        store.check_quota("a", quota, now)
    store.check_quota("b", quota, now)


def test_a_quota_of_megapixels_a_day_is_free_again_after_a_day(store: JobStore) -> None:
    quota, now = Quota(megapixels_per_day=10.0), time.time()
    store.spend("a", quota, now - DAY + 60, 9.0, 0)
    with pytest.raises(QuotaExceeded, match="10 megapixels a day") as caught:
        store.spend("a", quota, now, 2.0, 0)
    assert 0 < (caught.value.retry_after or 0) <= 61
    assert caught.value.fields["megapixels_per_day"] == 10.0
    store.spend("a", quota, now + 61, 2.0, 0)
    assert store.used(["a"], now + 61)["a"].megapixels_per_day == 2.0


def test_a_quota_of_stored_bytes_is_free_again_once_a_result_is_removed(store: JobStore) -> None:
    quota = Quota(stored_bytes=100)
    first = store.add(job("a"), quota=quota)
    store.finish(claimed(store), JobState.SUCCEEDED, bytes=100)
    with pytest.raises(QuotaExceeded, match="DELETE"):
        store.add(job("a"), quota=quota)
    store.add(job("b"), quota=quota)
    store.spend("a", quota, time.time(), 1.0, 1)  # a dry run, which keeps nothing
    store.forget(first.id)
    store.add(job("a"), quota=quota)


def test_what_was_used_is_counted_for_each_client_and_without_a_limit_too(store: JobStore) -> None:
    now = time.time()
    store.spend("a", Quota(), now - 7200, 5.0, 1)
    store.spend("a", Quota(), now, 1.5, 0)
    store.spend("a", Quota(), now, 2.0, 0)
    store.add(job("a"), quota=Quota())
    store.finish(claimed(store), JobState.SUCCEEDED, bytes=70)
    store.spend("b", None, now, 3.0, 1)  # who has no key
    assert store.used(["a", "b"], now + 1) == {"a": Used(1, 3.5, 8.5, 70), "b": Used()}
