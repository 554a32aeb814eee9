from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from service.jobs.bounds import Bounds
from service.jobs.database import Database
from service.jobs.schema import VERSION, SchemaError
from service.jobs.store import JobStore
from service.states import JobState
from tests.service.jobs.test_store import job

OLD = """
CREATE TABLE jobs (
    place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, client TEXT NOT NULL,
    fingerprint TEXT NOT NULL, frames INTEGER NOT NULL, predicted_seconds REAL NOT NULL,
    deadline REAL NOT NULL, created REAL NOT NULL,
    state TEXT NOT NULL, started REAL, finished REAL, attempts INTEGER NOT NULL, problem TEXT
);
CREATE TABLE idempotency_keys (
    client TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, job TEXT NOT NULL,
    PRIMARY KEY (client, key)
);
CREATE INDEX jobs_by_state ON jobs (state, place);
INSERT INTO jobs VALUES
    (5, 'done', '', 'f', 2, 1.0, 200.0, 100.0, 'succeeded', 101.0, 102.5, 1, NULL);
INSERT INTO jobs VALUES
    (6, 'cut-off', '', 'g', 2, 1.0, 200.0, 100.0, 'running', 101.0, NULL, 1, NULL);
INSERT INTO idempotency_keys VALUES ('', 'k', 'f', 'done');
"""


def test_the_file_of_the_first_version_is_brought_up_to_date_with_its_jobs_and_keys(
    tmp_path: Path,
) -> None:
    path = tmp_path / "jobs.sqlite3"
    with sqlite3.connect(path) as old:
        old.executescript(OLD)
    old.close()
    for _ in range(2):  # the second time there is nothing to do
        store = JobStore(Database(path), Bounds(4, 100.0))
        store.recover()
        done = store.known("", "f", "k", reuse=False)
        assert done is not None
        assert (done.id, done.state, done.result, done.event) == (
            "done",
            "succeeded",
            "done",
            102500,
        )
        assert [(waiting.id, waiting.state) for waiting in store.waiting()] == [
            ("cut-off", "queued")
        ]
        store.close()
    store = JobStore(Database(path), Bounds(4, 100.0))
    again = store.claim()
    assert again is not None
    assert (again.id, again.attempts, again.token) == ("cut-off", 2, 1)
    store.finish(again, JobState.SUCCEEDED)
    new = store.add(job())
    assert [found.id for found in store.page("", 10, None, None)] == [new.id, "cut-off", "done"]
    store.close()


def test_a_database_of_a_newer_version_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    database = Database(path)
    with database.transaction() as connection:
        connection.execute(text(f"UPDATE schema_version SET version = {VERSION + 1}"))
    database.close()
    with pytest.raises(SchemaError, match=f"version {VERSION + 1}") as caught:
        Database(path)
    assert "\n" not in str(caught.value)
