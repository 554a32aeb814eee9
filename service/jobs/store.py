"""Jobs on record: the queue, its bound, who works on what, and what became of every job. It
outlives the process.

Each method is one transaction, synced to disk before it returns, and safe to call from several
threads. On a database that replicas share it is safe to call from any of them: what runs is leased
to its worker, whoever wants to record something about it shows the token of its latest lease, and
the database's clock says when a lease is over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    Connection,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
)

from service.errors import Interrupted
from service.jobs import chunk_events, twins
from service.jobs import quota as counted
from service.jobs.bounds import Bounds, Held, check_room, check_share
from service.jobs.database import Database
from service.jobs.events import Event
from service.jobs.job import Job, is_id
from service.jobs.rows import ROW, UNDER_WAY, columns, every, number, one, position, written
from service.jobs.schema import deliveries, idempotency_keys, jobs, names, webhooks
from service.keys import Quota, Used
from service.states import ENDED, JobState

_ATTEMPTS = 3
_RUNNING = (JobState.RUNNING, JobState.CANCELLING)

Order = Callable[[Connection, str], None]
"""Records what else a job's client wants done when the job, given by its id, has ended."""


class JobStore:
    """The jobs in `database`. A job that is taken up is leased for `lease` seconds; without, until
    a restart."""

    def __init__(self, database: Database, bounds: Bounds, lease: float | None = None) -> None:
        self.bounds = bounds
        self.lease = lease
        self.database = database

    def recover(self) -> None:
        """After a start of the only process: what was running is queued again, unless it was tried
        too often."""
        if self.lease is not None:
            return
        with self.database.transaction() as connection:
            now = self.database.now(connection)
            for job in every(connection, ROW.where(jobs.c.state.in_(_RUNNING))):
                if not self._given_up(connection, job, now):
                    written(connection, replace(job, state=JobState.QUEUED))

    def begin(self) -> None:
        """From here on an `unused` database is another one, or was emptied."""
        with self.database.transaction() as connection:
            self.database.count(connection, jobs.name)

    @property
    def unused(self) -> bool:
        """Whether nothing was ever on record here, nor was it begun."""
        with self.database.transaction() as connection:
            return not connection.scalar(select(func.count()).select_from(jobs)) and (
                not self.database.ever_counted(connection, jobs.name)
            )

    def check_room(self, uploads: int, share: Held | None = None) -> None:
        """Raises QueueFull if nothing can wait beside `uploads` requests that are still being
        read, or not for a client that already holds as much as is free."""
        with self.database.transaction() as connection:
            check_room(connection, self.bounds, uploads)
            if share is not None:
                check_share(connection, self.bounds, share)

    def check_quota(self, client: str, quota: Quota | None, now: float) -> None:
        """Raises QuotaExceeded if nothing is left of the client's megapixels."""
        if quota is not None:
            with self.database.transaction() as connection:
                counted.check(connection, client, quota, now)

    def spend(
        self, client: str, quota: Quota | None, now: float, megapixels: float, reconstructions: int
    ) -> None:
        """Count what a request has used that is no new job; nothing without a quota. Raises
        QuotaExceeded."""
        if quota is not None:
            with self.database.transaction() as connection:
                self.database.alone(connection)
                counted.check(connection, client, quota, now, megapixels, reconstructions)
                counted.spend(connection, client, now, megapixels, reconstructions)

    def used(self, clients: Collection[str], now: float) -> dict[str, Used]:
        """What each of these clients has used of its quota."""
        with self.database.transaction() as connection:
            return counted.used(connection, clients, now)

    def known(self, client: str, fingerprint: str, key: str | None, reuse: bool) -> Job | None:
        """The job that already answers this request: its idempotency key's, or a finished one with
        equal input.

        Raises KeyReused if the key belongs to another request. A key that finds a finished twin is
        bound to it.
        """
        with self.database.transaction() as connection:
            self.database.alone(connection)
            return twins.known(connection, client, fingerprint, key, reuse)

    def add(
        self, job: Job, key: str | None = None, reuse: bool = False, quota: Quota | None = None,
        order: Order | None = None,
    ) -> Job:  # fmt: skip
        """Queue `job`, unless another one is `known` by now: then that one is returned. `order` is
        recorded with either, or neither is.

        Raises KeyReused, QueueFull, and QuotaExceeded beyond what its client may use. What was
        started stays counted, whatever becomes of the job and its result.
        """
        with self.database.transaction() as connection:
            self.database.alone(connection)
            known = twins.known(connection, job.client, job.fingerprint, key, reuse)
            if known is not None:
                if order is not None:
                    order(connection, known.id)
                return known
            check_room(connection, self.bounds)
            if quota is not None:
                now = job.created
                counted.check(connection, job.client, quota, now, started=1, stores=True)
                counted.spend(connection, job.client, now, 0.0, 1)
            job = replace(job, event=number(job, self.database.now(connection)))
            connection.execute(insert(jobs).values(columns(job)))
            twins.bind(connection, job, key)
            if order is not None:
                order(connection, job.id)
        return job

    def order(self, id: str, order: Order) -> None:
        """Record an order for a job that is on record."""
        with self.database.transaction() as connection:
            self.database.alone(connection)
            order(connection, id)

    def claim(self, worker: str = "", besides: Collection[str] = ()) -> Job | None:
        """Take up the job that has waited longest, or whose lease is over; None if there is none
        `besides` those."""
        with self.database.transaction() as connection:
            now = self.database.now(connection)
            over = jobs.c.lease_end < now
            if self.lease is not None:  # none ends so late, but by a clock that was set back since
                over = or_(over, jobs.c.lease_end > now + 2 * self.lease)
            abandoned = and_(jobs.c.state.in_(_RUNNING), over)
            free = and_(or_(jobs.c.state == JobState.QUEUED, abandoned), jobs.c.id.not_in(besides))
            first = (
                ROW.where(free).order_by(jobs.c.position).limit(1).with_for_update(skip_locked=True)
            )
            while (job := one(connection, first)) is not None:
                if job.state != JobState.QUEUED and self._given_up(connection, job, now):
                    continue
                taken = replace(
                    job, state=JobState.RUNNING, attempts=job.attempts + 1, token=job.token + 1,
                    worker=worker, started=now, lease_end=self._lease_end(now), stage=None,
                    progress=0.0, event=number(job, now),
                )  # fmt: skip
                return written(connection, taken)
            return None

    def renew(
        self, running: Iterable[Job], chunks: Mapping[str, Collection[Event]] = MappingProxyType({})
    ) -> dict[str, JobState | None]:
        """Lease jobs on, and record their `stage`, `progress` and `event`, and the events of their
        finished `chunks`.

        Returns the state of each by its id: a job that is "cancelling" is to be stopped, one with
        None is another's.
        """
        states: dict[str, JobState | None] = {}
        with self.database.transaction() as connection:
            now = self.database.now(connection)
            for job in sorted(running, key=lambda job: job.id):
                held = self._held(connection, job)
                states[job.id] = None if held is None else held.state
                if held is not None:
                    updated = replace(
                        held,
                        stage=job.stage,
                        progress=job.progress,
                        event=max(held.event, job.event),
                    )
                    written(connection, replace(updated, lease_end=self._lease_end(now)))
                    chunk_events.record(connection, job.id, chunks.get(job.id, ()))
        return states

    def finish(
        self,
        job: Job,
        state: JobState,
        problem: dict[str, Any] | None = None,
        after: int = 0,
        bytes: int = 0,
    ) -> Job | None:
        """Record a job's end, with an event numbered above `after`. For a success this makes its
        result exist.

        Returns the job as it is recorded, cancelled if that was asked for meanwhile; None if it has
        been taken up by another worker since, whose job it now is: then nothing is recorded.
        """
        with self.database.transaction() as connection:
            held = self._held(connection, job)
            if held is None:
                return None
            if held.state == JobState.CANCELLING and state == JobState.SUCCEEDED:
                state = JobState.CANCELLED
            return self._end(
                connection,
                replace(held, bytes=bytes),
                state,
                self.database.now(connection),
                problem,
                after,
            )

    def requeue(self, job: Job) -> Job | None:
        """Put a running job back at its place, as if it had not been tried. Returns what `finish`
        does."""
        with self.database.transaction() as connection:
            held = self._held(connection, job)
            if held is None:
                return None
            now = self.database.now(connection)
            if held.state == JobState.CANCELLING:
                return self._end(connection, held, JobState.CANCELLED, now)
            back = replace(
                held, state=JobState.QUEUED, attempts=held.attempts - 1, started=None,
                lease_end=None, stage=None, progress=0.0, event=number(held, now),
            )  # fmt: skip
            return written(connection, back)

    def cancel(self, id: str, after: int = 0) -> Job | None:
        """A queued job is cancelled at once, a running one as soon as its worker sees it. Returns
        the job as it is."""
        with self.database.transaction() as connection:
            job = one(connection, ROW.where(jobs.c.id == id).with_for_update())
            if job is not None and job.state == JobState.QUEUED:
                return self._end(
                    connection, job, JobState.CANCELLED, self.database.now(connection), after=after
                )
            if job is not None and job.state == JobState.RUNNING:
                return written(connection, replace(job, state=JobState.CANCELLING))
            return job

    def forget(self, id: str) -> None:
        """Remove an ended job's row; its result no longer exists."""
        with self.database.transaction() as connection:
            gone = connection.execute(delete(jobs).where(jobs.c.id == id, jobs.c.state.in_(ENDED)))
            if gone.rowcount:
                connection.execute(delete(idempotency_keys).where(idempotency_keys.c.job == id))
                connection.execute(delete(names).where(names.c.job == id))
                connection.execute(delete(webhooks).where(webhooks.c.job == id))
                connection.execute(delete(deliveries).where(deliveries.c.job == id))
                chunk_events.forget(connection, id)  # an older version ended it

    def rename(self, id: str, name: str | None) -> None:
        """Call a job by this name, or by none."""
        with self.database.transaction() as connection:
            self.database.alone(connection)
            connection.execute(delete(names).where(names.c.job == id))
            if name is not None:
                connection.execute(insert(names).values(job=id, name=name))

    def names(self, ids: Collection[str]) -> dict[str, str]:
        """The names of those jobs that have one, by their ids."""
        with self.database.transaction() as connection:
            rows = connection.execute(select(names).where(names.c.job.in_(ids)))
            return {row.job: row.name for row in rows}

    def get(self, id: str) -> Job | None:
        if not is_id(id):
            return None
        with self.database.transaction() as connection:
            return one(connection, ROW.where(jobs.c.id == id))

    def several(self, ids: Collection[str]) -> dict[str, Job]:
        """Those of the jobs that are there, by their ids."""
        with self.database.transaction() as connection:
            return {job.id: job for job in every(connection, ROW.where(jobs.c.id.in_(ids)))}

    def chunks(self, after: Mapping[str, int]) -> dict[str, list[Event]]:
        """Events of the finished chunks of jobs that run, those numbered above what `after` says
        of their job."""
        with self.database.transaction() as connection:
            return chunk_events.recorded(connection, after)

    def page(
        self, client: str, limit: int, before: str | None, state: JobState | None
    ) -> list[Job]:
        """A client's jobs, newest first; those before job `before`, if given."""
        wanted = ROW.where(jobs.c.client == client).order_by(jobs.c.position.desc()).limit(limit)
        if before is not None:
            wanted = wanted.where(jobs.c.position < position(before, jobs.c.client == client))
        if state is not None:
            wanted = wanted.where(jobs.c.state == state)
        with self.database.transaction() as connection:
            return every(connection, wanted)

    def ahead(self, id: str) -> list[Job]:
        """The jobs that a queued one waits for, in order."""
        with self.database.transaction() as connection:
            return every(
                connection,
                ROW.where(UNDER_WAY, jobs.c.position < position(id)).order_by(jobs.c.position),
            )

    def waiting(self) -> list[Job]:
        """Every job that has not ended, in order."""
        with self.database.transaction() as connection:
            return every(connection, ROW.where(UNDER_WAY).order_by(jobs.c.position))

    def ended(self) -> list[Job]:
        """Every job that has ended, oldest end first."""
        with self.database.transaction() as connection:
            return every(connection, ROW.where(jobs.c.state.in_(ENDED)).order_by(jobs.c.finished))

    def depth(self) -> int:
        """How many jobs have not ended."""
        with self.database.transaction() as connection:
            return int(connection.scalar(select(func.count()).where(UNDER_WAY)) or 0)

    def close(self) -> None:
        self.database.close()

    def _given_up(self, connection: Connection, job: Job, now: float) -> bool:
        """End a job whose worker is gone, if it was being cancelled or has been tried too often."""
        if job.state == JobState.CANCELLING:
            self._end(connection, job, JobState.CANCELLED, now)
        elif job.attempts >= _ATTEMPTS:
            problem = Interrupted(
                f"The service ended {_ATTEMPTS} times while it worked on this reconstruction."
            )
            self._end(connection, job, JobState.FAILED, now, problem.record())
        else:
            return False
        return True

    def _held(self, connection: Connection, job: Job) -> Job | None:
        """The job as it is, locked, if its latest token is still that of `job` and it has not
        ended."""
        latest = and_(jobs.c.id == job.id, jobs.c.token == job.token, jobs.c.state.in_(_RUNNING))
        return one(connection, ROW.where(latest).with_for_update())

    def _end(
        self, connection: Connection, job: Job, state: JobState, now: float,
        problem: dict[str, Any] | None = None, after: int = 0,
    ) -> Job:  # fmt: skip
        ended = replace(
            job,
            state=state,
            finished=max(now, job.created),  # whatever clock says so
            problem=problem,
            lease_end=None,
            event=number(job, now, after),
        )
        chunk_events.forget(connection, job.id)
        return written(connection, ended)

    def _lease_end(self, now: float) -> float | None:
        return None if self.lease is None else now + self.lease
