"""Everything that a front end may ask of the service, whether it speaks HTTP or is a command.

`Application` puts the rooms together from the settings. One request's life: `submissions` reads the
upload, prepares it and queues a job; a worker runs it through the pipeline; `reconstructions` says
how it goes, and it and the catalogue give its files. The event loop only moves bytes: decoding runs
on a small pool of threads, the network on the worker's threads, and the store is asked from
threads.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from service import __version__
from service.access import Access, Client
from service.admission import Admission
from service.batches import Batches
from service.clock import clock
from service.errors import Draining, StoreUnavailable, Unavailable, Wedged
from service.exports.catalogue import Catalogue
from service.exports.records import OUTPUTS
from service.inference.models import Models
from service.inputs.decoding import decoder
from service.inputs.prepared import PreparedScene
from service.inputs.remote.fetcher import Fetcher
from service.inputs.resumable import ResumableUploads
from service.intake import DryRun, Intake
from service.jobs.bounds import Bounds
from service.jobs.database import Database
from service.jobs.deliveries import Deliveries
from service.jobs.events import Events
from service.jobs.job import new_id
from service.jobs.lease import Follower, Heartbeat
from service.jobs.retention import Retention
from service.jobs.store import JobStore
from service.jobs.webhooks import Webhooks, read_secret
from service.jobs.worker import Watchdog, Worker
from service.keys import Used, ensure_keys
from service.pipeline.refine import Refiner
from service.pipeline.report import Report
from service.pipeline.task import Task
from service.pipeline.work import Work
from service.reconstructions import Reconstructions
from service.settings import AccessSettings, Settings, StorageSettings
from service.storage.bucket import Bucket
from service.storage.folder import Storage
from service.storage.outputs import Outputs
from service.storage.shared import SharedStorage
from service.submissions import Submissions
from service.telemetry.metrics import Metrics
from service.telemetry.usage import KeyUsage

_SWEEP_SECONDS = 60.0

_log = logging.getLogger("service")


class Application:
    """The service without a front end."""

    def __init__(
        self, settings: Settings, models: Models, on_failure: Callable[[], None] = lambda: None
    ) -> None:
        """`on_failure` is called if loading fails (the reason is then in ``failure``) or the
        worker is stuck. Raises KeysError, StorageInUseError, SettingsError, DatabaseError,
        SchemaError, BucketError."""
        self.settings = settings
        self.models = models
        self.failure: Exception | None = None
        self._access = _access(settings.access)
        fetcher = Fetcher(settings.access, settings.limits)
        secret = read_secret(settings.access.webhook_secret)
        outputs = Outputs(settings.storage.output_prefixes)
        self.fetcher = fetcher if settings.access.fetch_urls else None
        bounds = Bounds(settings.queue.queue_limit + models.lanes, settings.queue.max_queue_seconds)
        with ExitStack() as opened:  # and closed again, unless all of it can be used
            self.storage = _storage(settings.storage)
            opened.callback(self.storage.close)
            self.store = _store(settings, self.storage, bounds)
            opened.callback(self.store.close)
            self._retention = Retention(self.store, self.storage, settings.storage)
            self._retention.recover()
            self.uploads = ResumableUploads(
                settings.queue, settings.limits, settings.storage, self.storage.root
            )
            opened.pop_all()
        self.catalogue = Catalogue(self.storage, settings.limits.export_memory)
        here = settings.inference.engine == "local"
        device = settings.inference.device if here else None
        self.metrics = Metrics(device, bounds.jobs, OUTPUTS)
        self.webhooks = Webhooks(self.store.database, fetcher, secret, self.metrics)
        sends = fetcher if settings.access.send_outputs else None
        self.deliveries = Deliveries(self.store, self.catalogue, sends, outputs, self.metrics)
        self._events = Events()
        self._refiner = Refiner(
            settings.refinement, _refining_threads(settings), device or "cpu", self.metrics
        )
        self._work = Work(models, self._refiner, self.storage, self.catalogue, self.metrics)
        self._worker = Worker(
            self.store,
            self.storage,
            self._work,
            self._retention,
            self._events,
            self.metrics,
            models.lanes,
        )
        watching = (self.store, self._worker, self._events)
        self._between_replicas = Heartbeat(*watching), Follower(*watching)
        self._watchdog = Watchdog(self._worker, settings.queue.stall_timeout, on_failure)
        models.on_loss(self._lose)
        self._draining = False
        self._on_failure = on_failure
        self.reconstructions = Reconstructions(
            self._access,
            self.store,
            self.storage,
            self._events,
            self._worker,
            self.metrics,
            settings.server.heartbeat,
        )
        cancel = self.reconstructions.cancel
        self._admission = Admission(self.store, self.storage, settings.queue.max_uploads, cancel)
        self._intake = Intake(
            models,
            self._refiner,
            self.storage,
            self.store,
            self._admission,
            self._events,
            cancel,
            settings.queue.job_timeout,
        )
        self.submissions = Submissions(
            settings,
            models,
            self._admission,
            self._intake,
            self._worker,
            self.webhooks,
            self.deliveries,
            self.metrics,
            self.check_serving,
        )
        self.batches = Batches(
            self._access,
            self.store,
            self.submissions,
            self.reconstructions,
            self.fetcher,
            fetcher.hosts,
            settings.limits,
            bounds.jobs,
        )
        self._background: list[asyncio.Task[None]] = []
        self.metrics.draining.set_function(lambda: float(self._draining))
        for state in models.replicas:
            self.metrics.replicas.labels(state).set_function(partial(self._replicas, state))
        for name in models.engines:
            self.metrics.model_seconds.labels(name)
            self.metrics.model_loads.labels(name)
            self.metrics.model_bytes.labels(name).set_function(partial(self._held, name))
        models.on_load = lambda name: self.metrics.model_loads.labels(name).inc()
        if self.restricted:
            self.metrics.registry.register(KeyUsage(lambda: self.used(*self._access.names())))
        self._describe_build()

    # From start to stop

    async def start(self) -> None:
        """Load the model, then work on what waits. Returns at once; a failure is kept in
        ``failure``."""
        self._events.attach(asyncio.get_running_loop())
        self._background = [asyncio.create_task(self._load()), asyncio.create_task(self._tidy())]
        if self.webhooks.on:
            self._background.append(asyncio.create_task(self.webhooks.run()))
        if self.deliveries.on:
            self._background.append(asyncio.create_task(self.deliveries.run()))
        if self.fetcher is not None:
            self._background.append(asyncio.create_task(self.batches.run()))
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
        await asyncio.to_thread(self.submissions.close)
        await asyncio.to_thread(self.deliveries.close)
        await asyncio.to_thread(self.models.close)
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
        if self.failure is not None:
            raise Draining(f"The service ends: {self.failure}")
        if self._draining:
            raise Draining("The service is shutting down.")
        self.models.check_ready()

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
        ready = self.models.ready and not self._draining and not math.isnan(depth)
        self.metrics.ready.set(ready)
        return self.metrics.text()

    # Without a queue

    def predict(self, scene: PreparedScene) -> DryRun:
        """What reconstructing a prepared scene would take; the model is loaded. Raises a
        ServiceError."""
        return self._intake.predict(scene)

    def run(self, scene: PreparedScene, report: Report) -> str:
        """Reconstruct a prepared scene here and now, past the queue, on an application that was not
        started. Returns the result's name. Raises a ServiceError, and what `report` raises."""
        id = new_id()
        self.storage.accept(id, scene.save)
        self._work.do(Task(id, id, clock.now()), report)
        return id

    # Behind the scenes

    async def _load(self) -> None:
        try:
            await asyncio.to_thread(self.models.load)
        except Exception as error:  # whatever it is has to stop the process, in words
            self._fail(error)
            return
        self._describe_build()  # only the loaded network knows its kernels for sure
        self._worker.start()
        self._warn_of_long_passes()
        if self.storage.shared:
            for rounds in self._between_replicas:
                rounds.start()

    def _warn_of_long_passes(self) -> None:
        """Say so if a stop may cut off a pass, whose work is then done again."""
        patience = self.settings.server.shutdown_timeout
        for name, engine in self.models.engines.items():
            seconds = engine.planner.longest_seconds(engine.image_size, engine.image_size)
            if seconds > patience:
                _log.warning(
                    "%s: a long pass may take %.0f s; one that still runs %d s after a stop "
                    "(--shutdown-timeout) is begun again by the next process",
                    name,
                    seconds,
                    patience,
                )

    def _lose(self, error: Exception) -> None:
        _log.critical("the process ends: %s", error)
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.failure = error
        self.drain()
        self._on_failure()

    def _describe_build(self) -> None:
        engine = self.models.usual
        model = engine.document()
        self.metrics.build.info(
            {
                "version": __version__,
                "model": model.name,
                "model_sha": engine.digest,
                "device": model.device,
                "precision": model.precision,
                "kernels": model.kernels,
            }
        )

    def _replicas(self, state: str) -> float:
        return self.models.replicas[state]

    def _held(self, name: str) -> int:
        engine = self.models.engines[name]
        return engine.bytes if engine.ready else 0

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            try:
                await asyncio.to_thread(self._retention.tidy)
                await asyncio.to_thread(self.uploads.tidy)
                await asyncio.to_thread(self.batches.tidy, self.settings.storage.keep_hours)
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
