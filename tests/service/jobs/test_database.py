from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from service.errors import StorageFull, StoreUnavailable
from service.jobs.bounds import Bounds
from service.jobs.database import Database
from service.jobs.store import JobStore
from tests.service.jobs.test_store import job
from tests.service.running import wait_until
from tests.service.servers import Postgres, free_port


def shared(url: str) -> Database:
    return Database(make_url(url).set(drivername="postgresql+psycopg"))


def test_replicas_that_start_at_the_same_time_make_the_tables_once(postgres: Postgres) -> None:
    url = postgres.url()
    opened: list[Database] = []
    threads = [threading.Thread(target=lambda: opened.append(shared(url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    for database in opened:
        database.close()


def test_the_clock_is_the_databases(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    database = shared(postgres.url())
    true = time.time()
    monkeypatch.setattr(time, "time", lambda: 0.0)  # a replica whose clock is wrong
    with database.transaction() as connection:
        assert abs(database.now(connection) - true) < 60
    database.close()


def test_nothing_of_a_transaction_that_fails_is_kept(tmp_path: Path) -> None:
    database = Database(tmp_path / "jobs.sqlite3")

    def fail() -> None:
        with database.transaction() as connection:
            connection.execute(text("UPDATE schema_version SET version = 7"))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with database.transaction() as connection:
        assert connection.scalar(text("SELECT version FROM schema_version")) != 7
    database.close()


def test_an_outage_is_a_problem_that_tells_no_password_and_is_over_when_the_database_is_back(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    store = JobStore(shared(postgres.url()), Bounds(4, 100.0), 60.0)
    id = store.add(job()).id
    postgres.stop()
    try:
        for _ in range(3):
            with pytest.raises(StoreUnavailable) as caught:
                store.get(id)
            assert caught.value.retry_after
            assert "secret" not in caught.value.message
    finally:
        postgres.start()

    def back() -> bool:
        try:
            return store.get(id) is not None
        except StoreUnavailable:
            return False

    wait_until(back)
    assert "the shared database can't be used now" in caplog.text
    assert "secret" not in caplog.text
    store.close()


def test_a_database_that_is_not_there_at_the_start_is_a_problem() -> None:
    with pytest.raises(StoreUnavailable):
        shared(f"postgresql://recon:secret@127.0.0.1:{free_port()}/none")


def test_a_replica_that_stops_in_mid_transaction_holds_nobody_up_for_long(
    postgres: Postgres,
) -> None:
    url = postgres.url()
    stopped, other = shared(url), JobStore(shared(url), Bounds(4, 100.0), 60.0)

    def stop_in_the_middle() -> None:
        with stopped.transaction() as connection:
            stopped.alone(connection)
            other.add(job())  # waits until the server has cut the other one off
            connection.execute(text("SELECT 1"))

    with pytest.raises(StoreUnavailable):
        stop_in_the_middle()
    assert other.depth() == 1
    stopped.close()
    other.close()


def test_a_full_disk_is_a_problem(tmp_path: Path) -> None:
    database = Database(tmp_path / "jobs.sqlite3")
    store = JobStore(database, Bounds(10_000, 1e9))
    with database.transaction() as connection:
        pages = connection.scalar(text("PRAGMA page_count"))
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))

    def fill() -> None:
        for _ in range(1000):
            store.add(job())

    with pytest.raises(StorageFull):
        fill()
    assert store.depth() < 1000
    store.close()
