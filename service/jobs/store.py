"""Jobs in SQLite: the queue, its bound, and what became of every job. It outlives the process.

Each method is one transaction, synced to disk before it returns, and safe to call from several threads.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from service.jobs.job import Job, State
from service.problems import Interrupted, KeyReused, QueueFull, QuotaExceeded, StorageFull, retry_after

_ATTEMPTS = 3
_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    client TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    frames INTEGER NOT NULL,
    predicted_seconds REAL NOT NULL,
    deadline REAL NOT NULL,
    created REAL NOT NULL,
    state TEXT NOT NULL,
    started REAL,
    finished REAL,
    attempts INTEGER NOT NULL,
    problem TEXT
);
CREATE TABLE IF NOT EXISTS idempotency_keys (
    client TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    job TEXT NOT NULL,
    PRIMARY KEY (client, key)
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, place);
CREATE INDEX IF NOT EXISTS jobs_by_fingerprint ON jobs (fingerprint);
CREATE INDEX IF NOT EXISTS jobs_by_client ON jobs (client, created);
"""
_COLUMNS = ", ".join(field.name for field in fields(Job))
_WAITING = "state IN ('queued', 'running', 'cancelling')"


@dataclass(frozen=True)
class Bounds:
    """How much may be under way at once: jobs, and predicted seconds of them."""

    jobs: int
    seconds: float


class JobStore:
    """The jobs in the database file `path`."""

    def __init__(self, path: Path, bounds: Bounds) -> None:
        self.bounds = bounds
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.row_factory = sqlite3.Row
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.executescript(_TABLE)

    def recover(self) -> None:
        """After a start: what was running is queued again; what has been tried too often has failed."""
        problem = Interrupted(f"The service ended {_ATTEMPTS} times while it worked on this reconstruction.")
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET state = 'failed', finished = ?, problem = ? WHERE state = 'running' AND attempts >= ?",
                (time.time(), json.dumps(problem.document()), _ATTEMPTS),
            )
            database.execute("UPDATE jobs SET state = 'queued' WHERE state = 'running'")
            database.execute(
                "UPDATE jobs SET state = 'cancelled', finished = ? WHERE state = 'cancelling'", (time.time(),)
            )

    def check_room(self, uploads: int) -> None:
        """Raises QueueFull if nothing can wait beside `uploads` requests that are still being read."""
        with self._transaction() as database:
            self._check_room(database, uploads)

    def known(self, client: str, fingerprint: str, key: str | None, reuse: bool) -> Job | None:
        """The job that already answers this request: its idempotency key's, or a finished one with equal input.

        Raises KeyReused if the key belongs to another request. A key that finds a finished twin is bound to it.
        """
        with self._transaction() as database:
            return self._known(database, client, fingerprint, key, reuse)

    def add(self, job: Job, key: str | None = None, reuse: bool = False, hourly: int | None = None) -> Job:
        """Queue `job`, unless another one is `known` by now: then that one is returned.

        Raises KeyReused, QueueFull, and QuotaExceeded beyond `hourly` jobs of its client in an hour.
        """
        with self._transaction() as database:
            known = self._known(database, job.client, job.fingerprint, key, reuse)
            if known is not None:
                return known
            self._check_room(database)
            if hourly is not None:
                self._check_quota(database, job, hourly)
            row = asdict(job) | {"problem": None if job.problem is None else json.dumps(job.problem)}
            names = ", ".join(f":{name}" for name in row)
            database.execute(f"INSERT INTO jobs ({', '.join(row)}) VALUES ({names})", row)
            self._bind(database, job, key)
        return job

    def claim(self) -> Job | None:
        """The job that has waited longest, now running; None if none waits."""
        with self._transaction() as database:
            job = self._one(database, "state = 'queued'", (), "ORDER BY place LIMIT 1")
            if job is None:
                return None
            database.execute(
                "UPDATE jobs SET state = 'running', attempts = attempts + 1, started = ? WHERE id = ?",
                (time.time(), job.id),
            )
            return self._one(database, "id = ?", (job.id,))

    def finish(self, id: str, state: State, problem: dict[str, Any] | None = None) -> None:
        """Record a job's end. For a success this is the act that makes its result exist."""
        with self._transaction() as database:
            database.execute(
                f"UPDATE jobs SET state = ?, finished = ?, problem = ? WHERE id = ? AND {_WAITING}",
                (state, time.time(), None if problem is None else json.dumps(problem), id),
            )

    def requeue(self, id: str) -> None:
        """Put a running job back at its place, as if it had not been tried: the service is shutting down."""
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET state = 'queued', attempts = attempts - 1, started = NULL "
                "WHERE id = ? AND state = 'running'",
                (id,),
            )

    def cancel(self, id: str) -> Job | None:
        """A queued job is cancelled at once, a running one as soon as the worker sees it. Returns the job as it is."""
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET state = 'cancelled', finished = ? WHERE id = ? AND state = 'queued'", (time.time(), id)
            )
            database.execute("UPDATE jobs SET state = 'cancelling' WHERE id = ? AND state = 'running'", (id,))
            return self._one(database, "id = ?", (id,))

    def forget(self, id: str) -> None:
        """Remove an ended job's row; its result no longer exists."""
        with self._transaction() as database:
            database.execute(f"DELETE FROM jobs WHERE id = ? AND NOT {_WAITING}", (id,))
            database.execute("DELETE FROM idempotency_keys WHERE job = ?", (id,))

    def get(self, id: str) -> Job | None:
        with self._transaction() as database:
            return self._one(database, "id = ?", (id,))

    def page(self, client: str, limit: int, before: str | None, state: State | None) -> list[Job]:
        """A client's jobs, newest first; those before job `before`, if given."""
        with self._transaction() as database:
            condition, values = "client = ?", [client]
            if before is not None:
                condition += " AND place < (SELECT place FROM jobs WHERE id = ? AND client = ?)"
                values += [before, client]
            if state is not None:
                condition += " AND state = ?"
                values.append(state)
            return self._all(database, condition, tuple(values), f"ORDER BY place DESC LIMIT {int(limit)}")

    def ahead(self, id: str) -> list[Job]:
        """The jobs that a queued one waits for, in order."""
        with self._transaction() as database:
            place = "(SELECT place FROM jobs WHERE id = ?)"
            return self._all(database, f"{_WAITING} AND place < {place}", (id,), "ORDER BY place")

    def waiting(self) -> list[Job]:
        """Every job that has not ended, in order."""
        with self._transaction() as database:
            return self._all(database, _WAITING, (), "ORDER BY place")

    def ended(self) -> list[Job]:
        """Every job that has ended, oldest end first."""
        with self._transaction() as database:
            return self._all(database, f"NOT {_WAITING}", (), "ORDER BY finished")

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _known(
        self, database: sqlite3.Connection, client: str, fingerprint: str, key: str | None, reuse: bool
    ) -> Job | None:
        if key is not None:
            row = database.execute(
                "SELECT fingerprint, job FROM idempotency_keys WHERE client = ? AND key = ?", (client, key)
            ).fetchone()
            if row is not None:
                if row["fingerprint"] != fingerprint:
                    raise KeyReused("This Idempotency-Key was sent before with other pictures or options.")
                return self._one(database, "id = ?", (row["job"],))
        if not reuse:
            return None
        twin = self._one(
            database,
            "fingerprint = ? AND client = ? AND state = 'succeeded'",
            (fingerprint, client),
            "ORDER BY place DESC LIMIT 1",
        )
        if twin is not None:
            self._bind(database, twin, key)
        return twin

    def _bind(self, database: sqlite3.Connection, job: Job, key: str | None) -> None:
        if key is not None:
            database.execute(
                "INSERT INTO idempotency_keys VALUES (?, ?, ?, ?)", (job.client, key, job.fingerprint, job.id)
            )

    def _check_room(self, database: sqlite3.Connection, uploads: int = 0) -> None:
        jobs, seconds = database.execute(
            f"SELECT COUNT(*), TOTAL(predicted_seconds) FROM jobs WHERE {_WAITING}"
        ).fetchone()
        if jobs + uploads >= self.bounds.jobs:
            raise QueueFull(
                f"{jobs + uploads} requests are under way and no more can wait.",
                headers=retry_after(seconds / max(jobs, 1)),
                queue_capacity=self.bounds.jobs,
            )
        if jobs and seconds >= self.bounds.seconds:
            raise QueueFull(
                f"{seconds:.0f} seconds of work are waiting; no more is taken.",
                headers=retry_after(seconds - self.bounds.seconds),
                max_queue_seconds=self.bounds.seconds,
            )

    def _check_quota(self, database: sqlite3.Connection, job: Job, hourly: int) -> None:
        used, oldest = database.execute(
            "SELECT COUNT(*), MIN(created) FROM jobs WHERE client = ? AND created > ?", (job.client, job.created - 3600)
        ).fetchone()
        if used >= hourly:
            raise QuotaExceeded(
                f"This API key may start {hourly} reconstructions an hour.",
                headers=retry_after(oldest + 3600 - job.created),
                per_hour=hourly,
            )

    def _one(
        self, database: sqlite3.Connection, condition: str, values: tuple[Any, ...], order: str = ""
    ) -> Job | None:
        found = self._all(database, condition, values, order)
        return found[0] if found else None

    def _all(self, database: sqlite3.Connection, condition: str, values: tuple[Any, ...], order: str) -> list[Job]:
        rows = database.execute(f"SELECT {_COLUMNS} FROM jobs WHERE {condition} {order}", values).fetchall()
        return [Job(**{**row, "problem": row["problem"] and json.loads(row["problem"])}) for row in map(dict, rows)]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                try:
                    yield self._database
                    self._database.execute("COMMIT")
                except BaseException:
                    self._database.execute("ROLLBACK")
                    raise
            except sqlite3.OperationalError as error:
                if "full" not in str(error):
                    raise
                raise StorageFull("There is no room to record the job.", headers=retry_after(60)) from None
