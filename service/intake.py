"""From a scene whose pictures are decoded to a job: planned, checked against what there is, put on
record."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from model.scene.shrinking import shrunk
from service.access import ANYBODY, Client
from service.admission import Admission, UploadSlot
from service.clock import clock
from service.errors import NotFound, ResultDamaged, StoreUnavailable, TooMuchTime
from service.inference.engine import Engine
from service.inference.models import Models
from service.inference.plan import Asked, Plan
from service.inputs.prepared import PreparedScene
from service.jobs.events import Events
from service.jobs.job import Job, new_id
from service.jobs.store import JobStore, Order
from service.pipeline.refine import Refiner
from service.states import JobState
from service.storage.folder import Storage

_BYTES_A_PIXEL = 25  # of the network's grid, on disk: input, finished passes, result

_log = logging.getLogger("service")


@dataclass(frozen=True)
class Terms:
    """Who asks for a reconstruction, and how.

    `key` names the request, so that sending it again starts nothing new unless it failed or was
    cancelled; with `reuse` an earlier result of the same pictures and options will do. The job
    of whoever is `detached` goes on when they go away.
    """

    client: Client = ANYBODY
    key: str | None = None
    reuse: bool = True
    detached: bool = False


@dataclass(frozen=True)
class Submitted:
    """The job that answers a request; `known` says that it was there before."""

    job: Job
    known: bool


@dataclass(frozen=True)
class DryRun:
    """What a request would have been: plain data for JSON."""

    plan: dict[str, Any]


class _Abandoned(Exception):  # noqa: N818 - nobody sees it
    """Who asked has gone."""


class Intake:
    """Makes jobs that may take `job_timeout` seconds at most; `cancel` ends one whose asker has
    gone away. All of it blocks."""

    def __init__(
        self,
        models: Models,
        refiner: Refiner,
        storage: Storage,
        store: JobStore,
        admission: Admission,
        events: Events,
        cancel: Callable[[str], object],
        job_timeout: float,
    ) -> None:
        self._models = models
        self._refiner = refiner
        self._storage = storage
        self._store = store
        self._admission = admission
        self._events = events
        self._cancel = cancel
        self._job_timeout = job_timeout

    def take(
        self, slot: UploadSlot, scene: PreparedScene, terms: Terms, order: Order | None
    ) -> Submitted | DryRun:
        """The job for a scene, in the place of `slot`, with `order` recorded for its end, or what
        it would be. Raises a ServiceError."""
        plan = self._plan(scene)
        if scene.options.dry_run:
            client = terms.client
            self._store.spend(client.name, client.quota, clock.now(), 0.0, 1)
            return _dry_run(scene, plan)
        self._check_fits(scene, plan)
        engine = self._models.asked(scene.options.model)
        seconds = plan.seconds + self._models.seconds_to_load(engine)
        return self._add(slot, scene, engine, seconds, terms, order)

    def count_pictures(self, client: Client, megapixels: float) -> None:
        """Count pictures that the client has sent, whatever becomes of them. Raises
        QuotaExceeded."""
        self._store.spend(client.name, client.quota, clock.now(), megapixels, 0)

    def predict(self, scene: PreparedScene) -> DryRun:
        """What a job for a scene would be. Raises a ServiceError."""
        return _dry_run(scene, self._plan(scene))

    def _plan(self, scene: PreparedScene) -> Plan:
        options = scene.options
        engine = self._models.asked(options.model)
        frames, height, width, _ = scene.pixels.shape
        asked = Asked(options.attention_keys, options.passes)
        plan = engine.planner.plan(frames, height, width, asked)
        if options.query_points is not None:
            smaller = shrunk(height, width, plan.factor, engine.patch_size)
            engine.check_tracks(*smaller)
        return replace(plan, refinement=self._refiner.cost(scene))

    def _check_fits(self, scene: PreparedScene, plan: Plan) -> None:
        """Raises TooMuchTime, and StorageFull where there is no room for what the job keeps."""
        longest = self._job_timeout
        if plan.seconds > longest:
            raise TooMuchTime(
                f"{plan.frames} pictures are predicted to take {plan.seconds:.0f} seconds in "
                f"{len(plan.chunks)} passes; at most {longest:g} are allowed.",
                predicted_seconds=round(plan.seconds, 3),
                job_timeout=longest,
            )
        previews = sum(preview.nbytes for preview in scene.previews)
        self._storage.check_room(_BYTES_A_PIXEL * scene.keep.size + 2 * previews)

    def _add(
        self,
        slot: UploadSlot,
        scene: PreparedScene,
        engine: Engine,
        seconds: float,
        terms: Terms,
        order: Order | None,
    ) -> Submitted:
        """The job for a request: one that is known, or a new one in the place of `slot`."""
        client = terms.client
        options = scene.options
        rules = engine.planner.rules(Asked(options.attention_keys, options.passes))
        fingerprint = scene.fingerprint(engine.fingerprint, rules)
        known = self._store.known(client.name, fingerprint, terms.key, terms.reuse)
        if known is not None and not self._usable(known):
            self._storage.remove(known.result)
            self._store.forget(known.id)
            known = None
        if known is not None:
            if order is not None:
                self._store.order(known.id, order)
            return Submitted(known, known=True)
        if slot.left:
            raise _Abandoned
        longest = self._job_timeout
        limit = min(options.timeout or longest, longest)
        now = clock.now()
        job = Job(new_id(), client.name, fingerprint, len(scene.pixels), seconds, now + limit, now)
        self._storage.accept(job.id, scene.save)
        try:
            with self._admission.settling(slot) as settle:
                added = self._store.add(job, terms.key, terms.reuse, client.quota, order)
                new = added.id == job.id
                abandoned = settle(job.id if new and not terms.detached else None)
        except StoreUnavailable:
            raise  # the job may be recorded all the same; if not, its input is swept away
        except BaseException:
            self._storage.drop_incoming(job.id)
            raise
        if not new:
            self._storage.drop_incoming(job.id)
        else:
            queued = {"state": JobState.QUEUED, "progress": 0.0}
            self._events.publish(job.id, "state", queued, number=added.event)
        if abandoned:
            self._cancel(job.id)
        return Submitted(added, known=not new)

    def _usable(self, known: Job) -> bool:
        """Whether a job that answers a request has its result, if it should."""
        if known.state != JobState.SUCCEEDED:
            return True
        try:
            self._storage.scene(known.result)
        except (NotFound, ResultDamaged) as error:
            _log.warning("the result of job %s is made again: %s", known.id, error.message)
            return False
        return True


def _dry_run(scene: PreparedScene, plan: Plan) -> DryRun:
    _, height, width, _ = scene.pixels.shape
    return DryRun(
        {
            "dry_run": True,
            "frames": plan.frames,
            "network_size": {"height": height, "width": width},
            "warnings": [warning.model_dump() for warning in scene.warnings],
            **plan.document(),
        }
    )
