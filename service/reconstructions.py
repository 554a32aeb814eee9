"""Reconstructions on record: waited for, followed, cancelled, looked at, removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection

from service.access import Access, Client
from service.clock import clock
from service.errors import InvalidOption, NotFinished, NotFound, NotYours, gone
from service.intake import Submitted
from service.jobs.events import Event, Events, end_of
from service.jobs.job import Job
from service.jobs.status import Status, status_of
from service.jobs.store import JobStore
from service.jobs.worker import Worker
from service.result.document import ReconstructionDocument
from service.states import JobState
from service.storage.folder import Storage
from service.telemetry.metrics import Metrics

_GRACE_SECONDS = 5.0  # beyond a job's deadline, for the worker to say so itself


class Reconstructions:
    """Jobs and their results, each for who may see it."""

    def __init__(
        self,
        access: Access,
        store: JobStore,
        storage: Storage,
        events: Events,
        worker: Worker,
        metrics: Metrics,
        heartbeat: float,
    ) -> None:
        self._access = access
        self._store = store
        self._storage = storage
        self._events = events
        self._worker = worker
        self._metrics = metrics
        self._heartbeat = heartbeat

    # A job until its end

    async def wait(
        self, submitted: Submitted, seconds: float | None, detached: bool = False
    ) -> tuple[Job, dict[str, float]]:
        """The job once it has ended, or as it is after `seconds`, and its seconds by stage.

        None waits as long as the job may take. Cancelled then, it takes a job along that nobody
        else has asked for, unless whoever asked is `detached`.
        """
        job, timings = submitted.job, {}
        patience = max(job.deadline - clock.now(), 0.0) + _GRACE_SECONDS
        if seconds is not None:
            patience = min(patience, seconds)
        if not job.ended and patience > 0:
            try:
                end = await self._events.wait_for_end(job.id, patience)
            except asyncio.CancelledError:
                if not detached and not submitted.known:
                    await asyncio.shield(asyncio.to_thread(self.cancel, job.id))
                raise
            if end is None or end.job is None:
                now = await asyncio.to_thread(self._store.get, job.id)
                job = now or job
            else:
                job, timings = end.job, end.data["timings"]
        if submitted.known and job.state == JobState.SUCCEEDED:
            self._metrics.reused.inc()
        return job, timings

    async def follow(self, job: Job, after: int) -> AsyncIterator[Event | None]:
        """The job's events numbered above `after`, up to its end; None whenever nothing has
        happened for `heartbeat` seconds."""
        if job.ended:
            if job.event > after:
                yield end_of(job)
            return
        async for event in self._events.follow(job.id, after, self._heartbeat):
            yield event
            if event is None:
                now = await asyncio.to_thread(self._store.get, job.id)
                if now is None or now.ended:  # its history is gone, but its end is on record
                    if now is not None:
                        yield end_of(now)
                    return

    def status(self, job: Job) -> Status:
        """How far a job is that has no result."""
        return status_of(job, self._store, self._worker)

    def cancel(self, id: str) -> Job | None:
        """Cancel a job that waits or runs; returns it as it is now. An ended one stays as it is."""
        before = self._store.get(id)
        job = self._store.cancel(id, self._events.last_number(id))
        waited = before is not None and before.state == JobState.QUEUED
        if waited and job is not None and job.state == JobState.CANCELLED:
            self._storage.drop_incoming(id)
            self._metrics.cancelled.labels("queued").inc()
            self._metrics.jobs.labels(job.state).inc()
            self._events.publish_end(job)
        elif (
            job is not None and job.state == JobState.CANCELLING and job.worker == self._worker.name
        ):
            self._worker.cancel(id)
        return job

    # Jobs on record

    def find(self, client: Client, id: str) -> Job:
        """A job that the client may look at. Raises NotFound, for another's as for none."""
        job = self._store.get(id)
        if job is None or not self._access.may_read(client, job.client):
            raise gone()
        return job

    def _own(self, client: Client, id: str) -> Job:
        """The client's own job. Raises NotFound, NotYours."""
        job = self.find(client, id)
        if job.client != client.name:
            raise NotYours("Only who made this reconstruction may change or remove it.")
        return job

    def rename(self, client: Client, id: str, name: str | None) -> None:
        """Call the client's job by this name in lists, None for no name. Raises NotFound,
        NotYours."""
        self._store.rename(self._own(client, id).id, name)

    def names(self, jobs: Collection[Job]) -> dict[str, str]:
        """The names of those jobs that have one, by their ids."""
        return self._store.names([job.id for job in jobs])

    def finished(self, client: Client, id: str) -> Job:
        """The client's job, which has a result. Raises NotFound or NotFinished."""
        job = self.find(client, id)
        if not job.ended:
            message = f"The reconstruction is {job.state}; it has no files yet."
            raise NotFinished(message, retry_after=1)
        if job.state != JobState.SUCCEEDED:
            raise NotFound(f"The reconstruction is {job.state}, so it has no files.")
        return job

    def found_points(self, client: Client, id: str, chunk: int) -> bytes:
        """Points of a finished chunk of a job that still runs, as PLY. Raises NotFound."""
        job = self.find(client, id)
        found = None if job.ended else self._storage.found(id, chunk)
        if found is None:
            raise NotFound(
                f"There are no points of chunk {chunk} by themselves: it is not finished, or the "
                "whole reconstruction is."
            )
        return found

    def page(
        self, client: Client, limit: int, before: str | None, state: JobState | None
    ) -> list[Job]:
        """The client's jobs, newest first, from those older than job `before` on."""
        if before is not None:
            try:
                self.find(client, before)
            except NotFound:
                message = "before is not the id of a reconstruction."
                raise InvalidOption(message, option="before") from None
        return self._store.page(client.name, limit, before, state)

    def result(self, job: Job) -> ReconstructionDocument:
        """The document of a job that has a result. Raises NotFound."""
        return self._storage.result(job.result)

    def remove(self, client: Client, id: str) -> Job | None:
        """Cancel a job that waits or runs, else remove it and its files. Returns a job that still
        has to stop. Raises NotFound, NotYours."""
        found = self._own(client, id)
        job = found if found.ended else self.cancel(id)  # as it is now: it may have ended meanwhile
        if job is None or job.state == JobState.CANCELLED:
            return None  # the record of what was cancelled says so until it is too old
        if not job.ended:
            return job
        self._storage.remove(job.result)  # first: a full disk has no room to record anything
        self._store.forget(id)
        return None
