"""Requests that become jobs: uploads are read and decoded, off the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, closing
from functools import partial

from sqlalchemy import Connection

from service.access import ANYBODY, Client
from service.admission import Admission, UploadSlot
from service.fair import FairPool
from service.inference.models import Models
from service.inputs.body import Upload
from service.inputs.options import Options, read_options
from service.inputs.prepared import PreparedScene, prepare
from service.intake import DryRun, Intake, Submitted, Terms
from service.jobs.deliveries import Deliveries
from service.jobs.webhooks import Webhooks
from service.jobs.worker import Worker
from service.settings import Settings
from service.telemetry.metrics import REJECTIONS, Metrics


class Submissions:
    """Takes requests up while `check_serving` raises nothing."""

    def __init__(
        self,
        settings: Settings,
        models: Models,
        admission: Admission,
        intake: Intake,
        worker: Worker,
        webhooks: Webhooks,
        deliveries: Deliveries,
        metrics: Metrics,
        check_serving: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._models = models
        self._admission = admission
        self._intake = intake
        self._worker = worker
        self._webhooks = webhooks
        self._deliveries = deliveries
        self._metrics = metrics
        self.check_serving = check_serving
        self._pictures = FairPool(2, "pictures")

    def close(self) -> None:
        """Wait for the threads that decode."""
        self._pictures.shutdown()

    def count(self, outcome: str) -> None:
        """Count a request by how it ended: "ok", "accepted", "disconnected", or an error's code."""
        self._metrics.requests.labels(outcome).inc()
        if outcome in REJECTIONS:
            self._metrics.rejected.labels(outcome).inc()

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
                self._metrics.stages.labels("upload").observe(seconds)
                chosen = read_options({**options, **sent.options})
                self.check_addresses(chosen)
                work = partial(self._take_up, slot, sent, chosen, terms, seconds)
                return await asyncio.wrap_future(self._pictures.submit(terms.client.name, work))

    def check_addresses(self, options: Options) -> None:
        """Raises InvalidOption for an address that nothing is ever sent to from here."""
        self._webhooks.check(options.callback_url)
        self._deliveries.check(options)

    def prepare(self, upload: Upload, options: Options, client: Client = ANYBODY) -> PreparedScene:
        """Decode and pre-process one scene of the client's, to be closed by the caller. Raises a
        ServiceError."""
        engine = self._models.asked(options.model)
        if self._models.several:  # a job keeps its model, also when another one becomes the usual
            named = options.model or self._models.usual_name
            options = options.model_copy(update={"model": named})
        if options.query_points is not None:  # before decoding; the pictures' size is not known yet
            engine.check_tracks(engine.image_size, engine.image_size)
        settings = self._settings
        return prepare(
            upload,
            options,
            settings.limits,
            engine.grid,
            settings.refinement,
            engine.single_pictures,
            partial(self._intake.count_pictures, client),
        )

    def _take_up(
        self, slot: UploadSlot, upload: Upload, options: Options, terms: Terms, seconds: float
    ) -> Submitted | DryRun:
        """From an upload that has arrived to a job; on a thread, for all of it blocks."""

        def order(connection: Connection, job: str) -> None:
            self._webhooks.order(connection, job, options.callback_url)
            self._deliveries.order(connection, job, options.targets)

        wanted = options.callback_url is not None or options.targets
        self._deliveries.check_room(terms.client.name, options.targets)
        with closing(self.prepare(upload, options, terms.client)) as scene:
            scene.seconds["upload"] = seconds
            submitted = self._intake.take(slot, scene, terms, order if wanted else None)
        self._worker.notify()
        return submitted
