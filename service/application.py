"""Everything that a front end may ask of the service, whether it speaks HTTP or is a command.

`Application` puts the rooms together from the settings. One request's life: `submit` reads the
upload, prepares it and queues a job; a worker runs it through the pipeline; `wait` or `follow` say
how it goes; `finished` and the catalogue give its files. The event loop only moves bytes: decoding
runs on a small pool of threads, the network on the worker's threads, and the store is asked from
threads.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, closing
from functools import partial

from service import __version__
from service.access import Access, Client
from service.admission import Admission, UploadSlot
from service.clock import clock
from service.errors import (
    Draining,
    InvalidOption,
    NotFinished,
    NotFound,
    NotYours,
    StoreUnavailable,
    Unavailable,
    Wedged,
    gone,
)
from service.exports.catalogue import Catalogue
from service.exports.records import OUTPUTS
from service.fair import FairPool
from service.inference.engine import Engine
from service.inputs.body import Upload
from service.inputs.decoding import decoder
from service.inputs.options import Options, read_options
from service.inputs.prepared import PreparedScene, prepare
from service.inputs.remote.fetcher import Fetcher
from service.intake import DryRun, Intake, Submitted, Terms
from service.jobs.database import Database
from service.jobs.events import Event, Events, end_of
from service.jobs.job import Job, new_id
from service.jobs.lease import Follower, Heartbeat
from service.jobs.retention import Retention
from service.jobs.status import Status, status_of
from service.jobs.store import Bounds, JobStore
from service.jobs.webhooks import Webhooks, read_secret
from service.jobs.worker import Watchdog, Worker
from service.keys import Used, ensure_keys
from service.pipeline.refine import Refiner
from service.pipeline.report import Report
from service.pipeline.task import Task
from service.pipeline.work import Work
from service.result.document import ReconstructionDocument
from service.settings import AccessSettings, Settings, StorageSettings
from service.states import JobState
from service.storage.bucket import Bucket
from service.storage.folder import Storage
from service.storage.shared import SharedStorage
from service.telemetry.metrics import REJECTIONS, Metrics
from service.telemetry.usage import KeyUsage

_SWEEP_SECONDS = 60.0
_GRACE_SECONDS = 5.0  # beyond a job's deadline, for the worker to say so itself

_log = logging.getLogger("service")


class Application:
    """The service without a front end."""

    def __init__(
        self, settings: Settings, engine: Engine, on_failure: Callable[[], None] = lambda: None
    ) -> None:
        """`on_failure` is called if loading fails (the reason is then in ``engine.failure``) or the
        worker is stuck. Raises KeysError, StorageInUseError, SettingsError, DatabaseError,
        SchemaError, BucketError."""
        self.settings = settings
        self.engine = engine
        self._access = _access(settings.access)
        fetcher = Fetcher(settings.access, settings.limits)
        secret = read_secret(settings.access.webhook_secret)
        self.fetcher = fetcher if settings.access.fetch_urls else None
        bounds = Bounds(settings.queue.queue_limit + engine.lanes, settings.queue.max_queue_seconds)
        with ExitStack() as opened:  # and closed again, unless all of it can be used
            self.storage = _storage(settings.storage)
            opened.callback(self.storage.close)
            self.store = _store(settings, self.storage, bounds)
            opened.callback(self.store.close)
            self._retention = Retention(self.store, self.storage, settings.storage)
            self._retention.recover()
            opened.pop_all()
        self.catalogue = Catalogue(self.storage, settings.limits.export_memory)
        here = settings.inference.engine == "local"
        device = settings.inference.device if here else None
        self.metrics = Metrics(device, bounds.jobs, OUTPUTS)
        self.webhooks = Webhooks(self.store.database, fetcher, secret, self.metrics)
        self._events = Events()
        self._refiner = Refiner(
            settings.refinement, _refining_threads(settings), device or "cpu", self.metrics
        )
        self._work = Work(engine, self._refiner, self.storage, self.catalogue, self.metrics)
        self._worker = Worker(
            self.store,
            self.storage,
            self._work,
            self._retention,
            self._events,
            self.metrics,
            engine.lanes,
        )
        watching = (self.store, self._worker, self._events)
        self._between_replicas = Heartbeat(*watching), Follower(*watching)
        self._watchdog = Watchdog(self._worker, settings.queue.stall_timeout, on_failure)
        engine.on_loss = self._fail
        self._draining = False
        self._on_failure = on_failure
        self._admission = Admission(
            self.store, self.storage, settings.queue.max_uploads, self.cancel
        )
        self._intake = Intake(
            engine,
            self._refiner,
            self.storage,
            self.store,
            self._admission,
            self._events,
            self.cancel,
            settings.queue.job_timeout,
        )
        self._pictures = FairPool(2, "pictures")
        self._background: list[asyncio.Task[None]] = []
        self.metrics.draining.set_function(lambda: float(self._draining))
        for state in engine.replicas:
            self.metrics.replicas.labels(state).set_function(partial(self._replicas, state))
        if self.restricted:
            self.metrics.registry.register(KeyUsage(lambda: self.used(*self._access.names())))
        self._describe_build()

    # From start to stop

    async def start(self) -> None:
        """Load the model, then work on what waits. Returns at once; a failure is kept in
        ``engine.failure``."""
        self._events.attach(asyncio.get_running_loop())
        self._background = [asyncio.create_task(self._load()), asyncio.create_task(self._tidy())]
        if self.webhooks.on:
            self._background.append(asyncio.create_task(self.webhooks.run()))
        await asyncio.to_thread(decoder.start)
        self._watchdog.start()

    def drain(self) -> None:
        """Take nothing new; what runs goes on."""
        self._draining = True
        self._worker.drain()

    async def stop(self) -> None:
        """Let what runs end, keep what waits, release everything."""
        self.drain()
        self._events.close()
        for task in self._background:
            task.cancel()
        self._watchdog.stop()
        decoder.close()  # nobody waits for what is being decoded any more
        patience = float(self.settings.server.shutdown_timeout)
        ended = await asyncio.to_thread(self._worker.stop, patience)
        for rounds in self._between_replicas:
            await asyncio.to_thread(rounds.stop)
        await asyncio.to_thread(self._pictures.shutdown)
        await asyncio.to_thread(self.engine.close)
        if ended:
            self.close()

    def close(self) -> None:
        """Release what the constructor opened; enough for an application that was never started."""
        self.store.close()
        self.storage.close()

    # Whether it answers

    @property
    def busy(self) -> bool:
        """Whether a job runs."""
        return self._worker.busy

    @property
    def stuck(self) -> bool:
        """Whether the worker has shown no progress for too long, or is dead."""
        return self._watchdog.stalled or self._worker.dead

    @property
    def restricted(self) -> bool:
        """Whether API keys are needed."""
        return self._access.restricted

    def client(self, token: str | None, owner_token: str | None = None) -> Client:
        """Whose key `token` is, or without keys, whose `owner_token` that is. Raises
        KeyRequired."""
        return self._access.client(token, owner_token)

    @property
    def gallery(self) -> str:
        """Whose results a client sees in a list; see `Access.gallery`."""
        return self._access.gallery

    def used(self, *keys: str) -> dict[str, Used]:
        """What the API keys of these names have used."""
        return self.store.used(keys, clock.now())

    def check_alive(self) -> None:
        """Raises Wedged if the worker is stuck."""
        if self.stuck:
            raise Wedged("The network has shown no progress for too long.")

    def check_serving(self) -> None:
        """Raises Draining, Wedged or NotReady if nothing new can be taken."""
        self.check_alive()
        if self._draining:
            raise Draining("The service is shutting down.")
        self.engine.check_ready()

    async def check_ready(self) -> None:
        """As `check_serving`; raises StoreUnavailable, too, if the database can't be used."""
        self.check_serving()
        await asyncio.to_thread(self.store.depth)

    def under_way(self) -> int:
        """Requests admitted and not done yet: being read, waiting, or running."""
        return self._admission.under_way()

    def exposition(self) -> bytes:
        """The metrics as they are now. The queue's depth is not a number while the database can't
        be asked."""
        try:
            depth = float(self.under_way())
        except StoreUnavailable:
            depth = math.nan
        self.metrics.queue_depth.set(depth)
        ready = self.engine.ready and not self._draining and not math.isnan(depth)
        self.metrics.ready.set(ready)
        return self.metrics.text()

    # A request becomes a job

    def count(self, outcome: str) -> None:
        """Count a request by how it ended: "ok", "accepted", "disconnected", or an error's code."""
        self.metrics.requests.labels(outcome).inc()
        if outcome in REJECTIONS:
            self.metrics.rejected.labels(outcome).inc()

    async def submit(
        self,
        upload: AbstractAsyncContextManager[Upload],
        options: Mapping[str, str],
        terms: Terms,
    ) -> Submitted | DryRun:
        """Read a request and queue a job for it, unless it is known or asks for a dry run.

        `options` are those that came beside the upload, whose own win. Cancelled before it returns,
        it leaves nothing behind, unless whoever asked is detached. Raises a ServiceError, and what
        `upload` raises.
        """
        self.check_serving()
        async with self._admission.slot(terms.client) as slot:
            began = time.perf_counter()
            async with upload as sent:
                seconds = time.perf_counter() - began
                self.metrics.stages.labels("upload").observe(seconds)
                chosen = read_options({**options, **sent.options})
                self.webhooks.check(chosen.callback_url)
                work = partial(self._take_up, slot, sent, chosen, terms, seconds)
                return await asyncio.wrap_future(self._pictures.submit(terms.client.name, work))

    def prepare(self, upload: Upload, options: Options) -> PreparedScene:
        """Decode and pre-process one scene, to be closed by the caller. Raises a ServiceError."""
        engine = self.engine
        if options.query_points is not None:  # before decoding; the pictures' size is not known yet
            engine.check_tracks(engine.image_size, engine.image_size)
        settings = self.settings
        return prepare(
            upload,
            options,
            settings.limits,
            engine.grid,
            settings.refinement,
            engine.single_pictures,
        )

    def run(self, scene: PreparedScene, report: Report) -> str:
        """Reconstruct a prepared scene here and now, past the queue, on an application that was not
        started. Returns the result's name. Raises a ServiceError, and what `report` raises."""
        id = new_id()
        self.storage.accept(id, scene.save)
        self._work.do(Task(id, id, clock.now()), report)
        return id

    def _take_up(
        self, slot: UploadSlot, upload: Upload, options: Options, terms: Terms, seconds: float
    ) -> Submitted | DryRun:
        """From an upload that has arrived to a job; on a thread, for all of it blocks."""
        with closing(self.prepare(upload, options)) as scene:
            scene.seconds["upload"] = seconds
            submitted = self._intake.take(slot, scene, terms)
        if isinstance(submitted, Submitted):
            self.webhooks.order(submitted.job.id, options.callback_url)
        self._worker.notify()
        return submitted

    # A job until its end

    async def wait(
        self, submitted: Submitted, seconds: float | None
    ) -> tuple[Job, dict[str, float]]:
        """The job once it has ended, or as it is after `seconds`, and its seconds by stage.

        None waits as long as the job may take. Cancelled then, it takes a job along that nobody
        else has asked for.
        """
        job, timings = submitted.job, {}
        patience = max(job.deadline - clock.now(), 0.0) + _GRACE_SECONDS
        if seconds is not None:
            patience = min(patience, seconds)
        if not job.ended and patience > 0:
            try:
                end = await self._events.wait_for_end(job.id, patience)
            except asyncio.CancelledError:
                if seconds is None and not submitted.known:
                    await asyncio.shield(asyncio.to_thread(self.cancel, job.id))
                raise
            if end is None or end.job is None:
                now = await asyncio.to_thread(self.store.get, job.id)
                job = now or job
            else:
                job, timings = end.job, end.data["timings"]
        if submitted.known and job.state == JobState.SUCCEEDED:
            self.metrics.reused.inc()
        return job, timings

    async def follow(self, job: Job, after: int) -> AsyncIterator[Event | None]:
        """The job's events numbered above `after`, up to its end; None whenever nothing has
        happened for `heartbeat` seconds."""
        if job.ended:
            if job.event > after:
                yield end_of(job)
            return
        async for event in self._events.follow(job.id, after, self.settings.server.heartbeat):
            yield event
            if event is None:
                now = await asyncio.to_thread(self.store.get, job.id)
                if now is None or now.ended:  # its history is gone, but its end is on record
                    if now is not None:
                        yield end_of(now)
                    return

    def status(self, job: Job) -> Status:
        """How far a job is that has no result."""
        return status_of(job, self.store, self._worker)

    def cancel(self, id: str) -> Job | None:
        """Cancel a job that waits or runs; returns it as it is now. An ended one stays as it is."""
        before = self.store.get(id)
        job = self.store.cancel(id, self._events.last_number(id))
        waited = before is not None and before.state == JobState.QUEUED
        if waited and job is not None and job.state == JobState.CANCELLED:
            self.storage.drop_incoming(id)
            self.metrics.cancelled.labels("queued").inc()
            self.metrics.jobs.labels(job.state).inc()
            self._events.publish_end(job)
        elif (
            job is not None and job.state == JobState.CANCELLING and job.worker == self._worker.name
        ):
            self._worker.cancel(id)
        return job

    # Jobs on record

    def find(self, client: Client, id: str) -> Job:
        """A job that the client may look at. Raises NotFound, for another's as for none."""
        job = self.store.get(id)
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
        self.store.rename(self._own(client, id).id, name)

    def names(self, jobs: Collection[Job]) -> dict[str, str]:
        """The names of those jobs that have one, by their ids."""
        return self.store.names([job.id for job in jobs])

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
        found = None if job.ended else self.storage.found(id, chunk)
        if found is None:
            raise NotFound(
                f"There are no points of chunk {chunk} by themselves: it is not finished, or the "
                "whole reconstruction is, or another replica works on it."
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
        return self.store.page(client.name, limit, before, state)

    def result(self, job: Job) -> ReconstructionDocument:
        """The document of a job that has a result. Raises NotFound."""
        return self.storage.result(job.result)

    def remove(self, client: Client, id: str) -> Job | None:
        """Cancel a job that waits or runs, else remove it and its files. Returns a job that still
        has to stop. Raises NotFound, NotYours."""
        job = self._own(client, id)
        if job.state == JobState.CANCELLED:  # its record says so until it is too old
            return None
        if job.ended:
            self.storage.remove(job.result)  # first: a full disk has no room to record anything
            self.store.forget(id)
            return None
        job = self.cancel(id) or job
        return job if job.state == JobState.CANCELLING else None

    # Behind the scenes

    async def _load(self) -> None:
        try:
            await asyncio.to_thread(self.engine.load)
        except Exception as error:  # whatever it is has to stop the process, in words
            self._fail(error)
            return
        self._describe_build()  # only the loaded network knows its kernels for sure
        self._worker.start()
        if self.storage.shared:
            for rounds in self._between_replicas:
                rounds.start()

    def _fail(self, error: Exception) -> None:
        self.engine.failure = error
        self._on_failure()

    def _describe_build(self) -> None:
        model = self.engine.document()
        self.metrics.build.info(
            {
                "version": __version__,
                "model": model.name,
                "model_sha": self.engine.digest,
                "device": model.device,
                "precision": model.precision,
                "kernels": model.kernels,
            }
        )

    def _replicas(self, state: str) -> float:
        return self.engine.replicas[state]

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            try:
                await asyncio.to_thread(self._retention.tidy)
            except Unavailable:
                continue  # it has been logged
            except Exception:  # the next round may do better; results still come and go
                _log.exception("old results could not be removed")


def _access(settings: AccessSettings) -> Access:
    keys, first = settings.api_keys, settings.first_key
    if keys is not None and first is not None and ensure_keys(keys, first):
        _log.warning("a first API key was made; it is in %s", first)
    return Access(settings.api_keys, settings.shared_gallery)


def _storage(settings: StorageSettings) -> Storage:
    if settings.object_store is None:
        return Storage(settings.data_dir, settings.min_free_bytes)
    bucket = Bucket(settings.object_store)
    bucket.check()
    return SharedStorage(settings.data_dir, settings.min_free_bytes, bucket, settings.cache_bytes)


def _refining_threads(settings: Settings) -> int:
    """Of each refinement: an equal share of the cores of this process, where several may run."""
    cores = len(os.sched_getaffinity(0))
    return settings.inference.threads or max(1, cores // settings.cluster.replicas)


def _store(settings: Settings, storage: Storage, bounds: Bounds) -> JobStore:
    url = settings.storage.shared_database()
    lease = None if url is None else settings.queue.lease
    return JobStore(Database(url or storage.database), bounds, lease)
