"""Batches: tables of scenes that become reconstructions one after the other, each for who sent
it.

Pictures that a table names by URL are fetched in the background, a few scenes of each client at a
time, and never so many that they fill the queue. What becomes of each scene is on record, so a
restart loses none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Any

from service.access import Access, Client
from service.clock import clock
from service.errors import (
    InvalidOption,
    NotFound,
    NotYours,
    QueueFull,
    QuotaExceeded,
    ServiceError,
    Unavailable,
    URLRefused,
    URLsOff,
)
from service.inputs.body import Fetcher, Upload, fetched
from service.inputs.options import read_options
from service.inputs.remote.hosts import Hosts, URLRefusedError, read_url
from service.intake import DryRun, Terms
from service.jobs.batches import Batch, BatchScene, BatchStore, SceneRequest, Standing
from service.jobs.job import Job
from service.jobs.sending import keep_sending
from service.jobs.store import JobStore
from service.reconstructions import Reconstructions
from service.settings import Limits
from service.states import JobState
from service.submissions import Submissions

_AT_ONCE = 8  # scenes that are fetched side by side
_PATIENCE_SECONDS = 7 * 86400.0  # for a quota that is used up, or a service with too much to do
_REMOVED = "removed"

_log = logging.getLogger("service")


@dataclass(frozen=True)
class SceneProgress:
    """One line of a batch as it is now: `state` is its job's, its `Standing` while it has none, or
    "removed" if its reconstruction is no longer there."""

    scene: BatchScene
    job: Job | None

    @property
    def state(self) -> str:
        if self.scene.standing != Standing.STARTED:
            return str(self.scene.standing)
        return _REMOVED if self.job is None else str(self.job.state)

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        return 1.0 if self.ended else 0.0 if self.job is None else self.job.progress

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it unless it is begun anew."""
        return self.may_begin_anew or self.state == JobState.SUCCEEDED

    @property
    def problem(self) -> dict[str, Any] | None:
        """The record of the error that it failed with, or waits for to be over."""
        return self.scene.problem if self.job is None else self.job.problem

    @property
    def may_begin_anew(self) -> bool:
        """Whether it has ended without a result."""
        return self.state in (Standing.FAILED, JobState.FAILED, JobState.CANCELLED, _REMOVED)


class Batches:
    """`capacity` is how many jobs may be under way in the service; what is fetched here leaves half
    of it to others. Without a `fetcher` nothing is fetched."""

    def __init__(
        self,
        access: Access,
        store: JobStore,
        submissions: Submissions,
        reconstructions: Reconstructions,
        fetcher: Fetcher | None,
        hosts: Hosts,
        limits: Limits,
        capacity: int,
    ) -> None:
        self._access = access
        self._jobs = store
        self._store = BatchStore(store.database)
        self._submissions = submissions
        self._reconstructions = reconstructions
        self._fetcher = fetcher
        self._hosts = hosts
        self._limits = limits
        self._most = max(capacity // 2, 1)
        self._starting: dict[str, str] = {}  # the scenes' clients, by the attempts' keys
        self._store.recover()

    def create(self, client: Client, scenes: Sequence[SceneRequest]) -> Batch:
        """Put a table on record. Raises InvalidOption, URLsOff, URLRefused, naming the scene, and
        QueueFull."""
        for scene in scenes:
            try:
                self._check(scene)
            except InvalidOption as error:
                raise InvalidOption(f"{scene.name}: {error.message}", **error.fields) from None
        return self._store.add(client.name, scenes)

    def find(self, client: Client, id: str) -> Batch:
        """A batch that the client may look at. Raises NotFound, for another's as for none."""
        batch = self._store.get(id)
        if batch is None or not self._access.may_read(client, batch.client):
            raise NotFound("There is no such batch, or it was removed.")
        return batch

    def page(self, client: Client, limit: int, before: str | None) -> list[Batch]:
        """The client's batches, newest first, from those older than batch `before` on."""
        return self._store.page(client.name, limit, before)

    def scenes(self, batch: Batch) -> list[SceneProgress]:
        """Its lines as they are now, in their order."""
        scenes = self._store.scenes(batch.id)
        jobs = self._jobs.several([scene.job for scene in scenes if scene.job is not None])
        return [SceneProgress(scene, jobs.get(scene.job or "")) for scene in scenes]

    async def send(
        self, client: Client, id: str, number: int, upload: AbstractAsyncContextManager[Upload]
    ) -> None:
        """Start a scene with the pictures of `upload`, which is not read if the scene is under way
        or done. Raises a ServiceError, and what `upload` raises."""
        line = await asyncio.to_thread(self._line, client, id, number)
        if line.scene.standing == Standing.EXPECTED or (
            line.may_begin_anew and not line.scene.urls
        ):
            scene = line.scene
            if scene.standing != Standing.EXPECTED:
                await asyncio.to_thread(self._store.again, [scene])
                scene = (await asyncio.to_thread(self._line, client, id, number)).scene
            await self._submit(client, scene, upload)

    def retry(self, client: Client, id: str) -> None:
        """Begin those scenes anew that have ended without a result: they are fetched again, or
        their pictures are to be sent again. Raises NotFound, NotYours."""
        lines = self.scenes(self._own(client, id))
        self._store.again([line.scene for line in lines if line.may_begin_anew])

    def remove(self, client: Client, id: str) -> None:
        """Cancel what is under way, remove the results, then the batch. Raises NotFound,
        NotYours."""
        self._own(client, id)
        # first: what is being started then finds nobody who wants it
        for job in self._store.forget(id):
            with suppress(NotFound):  # it was removed before
                self._reconstructions.remove(client, job)

    def results(self, batch: Batch) -> Iterator[tuple[str, Job]]:
        """The scenes that have a result, by their names."""
        for line in self.scenes(batch):
            if line.job is not None and line.job.state == JobState.SUCCEEDED:
                yield line.scene.name, line.job

    def tidy(self, keep_hours: float | None) -> None:
        """Remove old batches whose reconstructions are gone."""
        self._store.tidy(None if keep_hours is None else 3600 * keep_hours)

    async def run(self) -> None:
        """Start the scenes that wait to be fetched, until cancelled."""
        await keep_sending("scenes of batches", _AT_ONCE, self._take, self._start)

    def _take(self, most: int) -> list[tuple[Batch, BatchScene]]:
        """Scenes to be started now, so many at most as the queue has room for."""
        self._submissions.check_serving()
        busy = list(self._starting.values())
        free = self._most - self._jobs.depth() - len(busy)
        return self._store.take(min(free, most), busy)

    def _check(self, scene: SceneRequest) -> None:
        options = read_options(scene.options or {})
        if options.dry_run:
            raise _no_dry_run()
        self._submissions.check_addresses(options)
        if scene.urls and self._fetcher is None:
            raise URLsOff(
                "This service fetches nothing by URL; leave urls out and send each scene's "
                "pictures."
            )
        for url in scene.urls:
            try:
                self._hosts.origin(read_url(url))
            except URLRefusedError as error:
                raise URLRefused(f"{scene.name}: {url[:120]} {error}.") from None

    def _own(self, client: Client, id: str) -> Batch:
        batch = self.find(client, id)
        if batch.client != client.name:
            raise NotYours("Only who made this batch may change or remove it.")
        return batch

    def _line(self, client: Client, id: str, number: int) -> SceneProgress:
        lines = self.scenes(self._own(client, id))
        if not 0 <= number < len(lines):
            raise NotFound(f"This batch has scenes 0 to {len(lines) - 1}; {number} was asked for.")
        return lines[number]

    async def _start(self, taken: tuple[Batch, BatchScene]) -> None:
        assert self._fetcher is not None
        batch, scene = taken
        store = self._store
        self._starting[scene.key] = batch.client
        try:
            client = await asyncio.to_thread(self._access.named, batch.client)
            await self._submit(client, scene, fetched(scene.urls, self._limits, self._fetcher))
        except asyncio.CancelledError:
            store.later(scene, None, 0.0)
            raise
        except (Unavailable, QueueFull, QuotaExceeded) as error:
            if clock.now() - batch.created > _PATIENCE_SECONDS:
                await asyncio.to_thread(store.failed, scene, error)
            else:
                wait = max(error.retry_after or 0.0, 5.0)
                await asyncio.to_thread(store.later, scene, error, wait)
        except ServiceError as error:
            await asyncio.to_thread(store.failed, scene, error)
        except Exception:
            _log.exception("scene %d of batch %s could not be started", scene.number, batch.id)
            unexpected = ServiceError("The scene could not be started.")
            await asyncio.to_thread(store.failed, scene, unexpected)
        finally:
            del self._starting[scene.key]

    async def _submit(
        self, client: Client, scene: BatchScene, upload: AbstractAsyncContextManager[Upload]
    ) -> None:
        """Queue a scene's job, and record that it has one."""
        terms = Terms(client, scene.key, reuse=False, detached=True)
        submitted = await self._submissions.submit(upload, scene.options, terms)
        if isinstance(submitted, DryRun):
            raise _no_dry_run()
        if not await asyncio.to_thread(self._store.started, scene, submitted.job.id):
            await asyncio.to_thread(self._reconstructions.cancel, submitted.job.id)


def _no_dry_run() -> InvalidOption:
    return InvalidOption("A batch has no dry runs.", option="dry_run")
