"""What the routes share: one of each, built from the settings, started and stopped together."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from service import __version__
from service.access import Access, Client
from service.exports.catalogue import Catalogue
from service.inference.engine import Engine
from service.jobs.database import Database
from service.jobs.events import Events
from service.jobs.job import Job
from service.jobs.lease import Follower, Heartbeat
from service.jobs.retention import Retention
from service.jobs.store import Bounds, JobStore
from service.jobs.worker import Watchdog, Worker
from service.pipeline.work import Work
from service.problems import Draining, StoreUnavailable, Wedged, retry_after
from service.settings import Settings
from service.storage.bucket import Bucket
from service.storage.folder import Storage
from service.storage.shared import SharedStorage
from service.telemetry.metrics import Metrics

T = TypeVar("T")

_SWEEP_SECONDS = 60.0

_log = logging.getLogger("service")


@dataclass
class UploadPlace:
    """A place in the queue that a request holds until it is a job."""

    held: int = 0
    left: bool = False


class Parts:
    """The service without its HTTP side."""

    def __init__(self, settings: Settings, engine: Engine, on_failure: Callable[[], None]) -> None:
        self.settings = settings
        self.engine = engine
        self.access = Access(settings.api_keys)
        bounds = Bounds(settings.queue_limit + engine.lanes, settings.max_queue_seconds)
        with ExitStack() as opened:  # and closed again, unless all of it can be used
            self.storage = _storage(settings)
            opened.callback(self.storage.close)
            self.store = _store(settings, self.storage, bounds)
            opened.callback(self.store.close)
            self.retention = Retention(self.store, self.storage, settings)
            self.retention.recover()
            opened.pop_all()
        self.catalogue = Catalogue(self.storage)
        self.events = Events()
        self.metrics = Metrics(settings.device if settings.engine == "local" else None, bounds.jobs)
        work = Work(engine, self.storage, self.catalogue, self.metrics)
        self.worker = Worker(self.store, self.storage, work, self.retention, self.events, self.metrics, engine.lanes)
        told = (self.store, self.worker, self.events)
        self.between_replicas: tuple[Heartbeat, Follower] = Heartbeat(*told), Follower(*told)
        self.watchdog = Watchdog(self.worker, settings.stall_timeout, on_failure)
        engine.on_loss = self._fail
        self.draining = False
        self._on_failure = on_failure
        self._uploads = 0
        self._admission = threading.Lock()  # held while the store is asked, so never on the event loop
        self._upload_count = threading.Lock()
        self._pictures = ThreadPoolExecutor(2, thread_name_prefix="pictures")
        self._background: list[asyncio.Task[None]] = []
        self.metrics.draining.set_function(lambda: float(self.draining))
        for state in engine.replicas:
            self.metrics.replicas.labels(state).set_function(partial(self._replicas, state))
        self._describe_build()

    def check_serving(self) -> None:
        """Raises Draining, Wedged or NotReady if nothing new can be taken."""
        if self.watchdog.stalled:
            raise Wedged("The network has shown no progress for too long.", headers=retry_after(30))
        if self.draining:
            raise Draining("The service is shutting down.", headers=retry_after(30))
        self.engine.check_ready()

    def check_store(self) -> None:
        """Raises StoreUnavailable if the database that replicas share can't be reached."""
        if self.storage.shared:
            self.store.depth()

    @asynccontextmanager
    async def upload_place(self) -> AsyncIterator[UploadPlace]:
        """Hold one of the places for requests under way while a request is read. Raises QueueFull."""
        place = UploadPlace()
        try:
            await asyncio.to_thread(self._take, place)
            yield place
        finally:
            self._give_back(place, leave=True)

    def _take(self, place: UploadPlace) -> None:
        with self._admission:
            self.store.check_room(self._uploads)
            with self._upload_count:
                place.held = 0 if place.left else 1  # who asked may be gone by now
                self._uploads += place.held

    def _give_back(self, place: UploadPlace, leave: bool = False) -> None:
        with self._upload_count:
            self._uploads -= place.held
            place.held = 0
            place.left = place.left or leave

    def add_job(self, place: UploadPlace, job: Job, key: str | None, reuse: bool, client: Client) -> Job:
        """Queue `job` in the place that its upload held; see `JobStore.add`."""
        with self._admission:
            added = self.store.add(job, key, reuse, client.per_hour)
            self._give_back(place)
        return added

    def under_way(self) -> int:
        """Requests admitted and not done yet: being read, waiting, or running."""
        with self._admission:
            return self.store.depth() + self._uploads

    def exposition(self) -> bytes:
        """The metrics as they are now. The queue's depth is not a number while the database can't be asked."""
        try:
            depth = float(self.under_way())
        except StoreUnavailable:
            depth = math.nan
        self.metrics.queue_depth.set(depth)
        self.metrics.ready.set(self.engine.ready and not self.draining and not math.isnan(depth))
        return self.metrics.text()

    def on_pictures(self, work: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        """Run decoding, or the like, on a small pool of threads off the event loop."""
        return asyncio.get_running_loop().run_in_executor(self._pictures, work, *arguments)

    def cancel(self, id: str) -> Job | None:
        """Cancel a job that waits or runs; returns it as it is now. For an ended one nothing changes."""
        before = self.store.get(id)
        job = self.store.cancel(id, self.events.last_number(id))
        if before is not None and job is not None and before.state == "queued" and job.state == "cancelled":
            self.storage.drop_incoming(id)
            self.metrics.cancelled.labels("queued").inc()
            self.metrics.jobs.labels("cancelled").inc()
            told = {"state": "cancelled", "progress": 1.0, "problem": None, "timings": {}}
            self.events.publish(id, "end", told, number=job.event)
        elif job is not None and job.state == "cancelling" and job.worker == self.worker.name:
            self.worker.cancel(id)
        return job

    async def start(self) -> None:
        """Load the model, then work on what waits. Returns at once; a failure is kept in ``engine.failure``."""
        self.events.attach(asyncio.get_running_loop())
        self._background = [asyncio.create_task(self._load()), asyncio.create_task(self._tidy())]
        self.watchdog.start()

    def drain(self) -> None:
        """Take nothing new; what runs goes on."""
        self.draining = True
        self.worker.drain()

    async def stop(self) -> None:
        """Let what runs end, keep what waits, release everything."""
        self.drain()
        self.events.close()
        for task in self._background:
            task.cancel()
        self.watchdog.stop()
        ended = await asyncio.to_thread(self.worker.stop, float(self.settings.shutdown_timeout))
        for rounds in self.between_replicas:
            await asyncio.to_thread(rounds.stop)
        self._pictures.shutdown(cancel_futures=True)
        await asyncio.to_thread(self.engine.close)
        if ended:
            self.store.close()
            self.storage.close()

    async def _load(self) -> None:
        try:
            await asyncio.to_thread(self.engine.load)
        except Exception as error:  # whatever stops the model from loading has to stop the process, in words
            self._fail(error)
            return
        self._describe_build()  # only the loaded network knows its kernels for sure
        self.worker.start()
        if self.storage.shared:
            for rounds in self.between_replicas:
                rounds.start()

    def _fail(self, error: Exception) -> None:
        self.engine.failure = error
        self._on_failure()

    def _describe_build(self) -> None:
        model = self.engine.document()
        self.metrics.build.info(
            {"version": __version__, "model": model.name, "model_sha": self.engine.digest, "device": model.device}
            | {"precision": model.precision, "kernels": model.kernels}
        )

    def _replicas(self, state: str) -> float:
        return self.engine.replicas[state]

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            try:
                await asyncio.to_thread(self.retention.tidy)
            except StoreUnavailable:
                continue  # it has been logged
            except Exception:  # the next round may do better; results still come and go
                _log.exception("old results could not be removed")


def _storage(settings: Settings) -> Storage:
    if settings.object_store is None:
        return Storage(settings.data_dir, settings.min_free_bytes)
    bucket = Bucket(settings.object_store)
    bucket.check()
    return SharedStorage(settings.data_dir, settings.min_free_bytes, bucket, settings.cache_bytes)


def _store(settings: Settings, storage: Storage, bounds: Bounds) -> JobStore:
    url = settings.shared_database()
    return JobStore(Database(url or storage.database), bounds, None if url is None else settings.lease)
