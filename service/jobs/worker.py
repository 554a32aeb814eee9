"""The one thread that works on jobs, in the order of their acceptance, and what watches over it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from service.jobs.events import Events
from service.jobs.job import Job, State
from service.jobs.retention import Retention
from service.jobs.store import JobStore
from service.jobs.work import Work
from service.metrics import Metrics
from service.problems import DeadlineExceeded, Problem
from service.results.storage import Storage
from service.tracing import tracer

_IDLE_SECONDS = 1.0

_log = logging.getLogger("service")


class _Stopped(Exception):  # noqa: N818 - not an error
    """The job was cancelled, or the service can't wait for it any longer."""


@dataclass(frozen=True)
class Activity:
    """What the worker does now: the job, its stage, the share done, and when that last changed (monotonic)."""

    job: Job
    stage: str
    progress: float
    changed: float


class Worker:
    """Runs `work` for every queued job of `store` until `stop`."""

    def __init__(
        self, store: JobStore, storage: Storage, work: Work, retention: Retention, events: Events, metrics: Metrics
    ) -> None:
        self._store = store
        self._storage = storage
        self._work = work
        self._retention = retention
        self._events = events
        self._metrics = metrics
        self._wake = threading.Event()
        self._draining = threading.Event()
        self._aborting = threading.Event()
        self._cancelled: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self.activity: Activity | None = None

    def start(self) -> None:
        self._thread.start()

    def notify(self) -> None:
        """There may be a new job."""
        self._wake.set()

    def cancel(self, id: str) -> None:
        """Stop working on the job at its next step, if it is the one."""
        self._cancelled.add(id)

    def drain(self) -> None:
        """Take no further job."""
        self._draining.set()
        self._wake.set()

    def stop(self, patience: float) -> bool:
        """Drain, give the running job `patience` seconds, then put it back into the queue. False if it won't end."""
        self.drain()
        if not self._thread.is_alive():
            return True
        self._thread.join(patience)
        self._aborting.set()
        self._thread.join(max(patience, 5.0))
        return not self._thread.is_alive()

    @property
    def busy(self) -> bool:
        return self.activity is not None

    def stalled_seconds(self) -> float:
        """How long the running job has shown no progress; 0 while idle."""
        activity = self.activity
        return 0.0 if activity is None else time.monotonic() - activity.changed

    def _run(self) -> None:
        while not self._draining.is_set():
            job = self._store.claim()
            if job is None:
                self._wake.wait(_IDLE_SECONDS)
                self._wake.clear()
                continue
            try:
                self._one(job)
            except Exception:  # the thread must outlive whatever a full disk or a broken job does to its bookkeeping
                _log.exception("job %s could not be recorded", job.id)
                time.sleep(_IDLE_SECONDS)

    def _one(self, job: Job) -> None:
        began = time.monotonic()
        self._metrics.queue_wait.observe(max(time.time() - job.created, 0.0))
        self._events.publish(job.id, "state", {"state": "running", "progress": 0.0})
        self.activity = Activity(job, "decode", 0.0, began)
        state: State = "failed"
        problem: Problem | None = None
        timings: dict[str, float] = {}
        try:
            with tracer.start_as_current_span("reconstruction", attributes={"id": job.id, "frames": job.frames}):
                timings = self._work.do(job, self._report)
            state = "cancelled" if job.id in self._cancelled else "succeeded"
        except _Stopped:
            if self._aborting.is_set() and job.id not in self._cancelled:
                self._store.requeue(job.id)
                self.activity = None
                return
            state = "cancelled"
            self._metrics.cancelled.labels("running").inc()
        except Problem as error:
            problem = error
        except Exception:
            _log.exception("unexpected error in job %s", job.id)
            problem = Problem("The service met a condition that it did not expect; its log says more.")
        finally:
            self.activity = None
        if state != "succeeded":
            self._storage.remove(job.id)
        document = None if problem is None else problem.document()
        self._store.finish(job.id, state, document)
        self._storage.drop_incoming(job.id)
        self._retention.enforce()
        self._cancelled.discard(job.id)
        self._metrics.jobs.labels(state).inc()
        seconds = time.monotonic() - began
        self._metrics.job_seconds.labels(self._metrics.frames_bucket(job.frames)).observe(seconds)
        _log.info("job %s %s after %.2f s, %d frames", job.id, state, seconds, job.frames)
        ended = {"state": state, "progress": 1.0, "problem": document, "timings": timings}
        self._events.publish(job.id, "end", ended)

    def _report(self, stage: str, progress: float) -> None:
        activity = self.activity
        assert activity is not None
        job = activity.job
        if job.id in self._cancelled or self._aborting.is_set():
            raise _Stopped
        if time.time() > job.deadline:
            raise DeadlineExceeded(
                f"The reconstruction was stopped after its {job.deadline - job.created:g} seconds, "
                f"at {progress:.0%} in stage {stage}."
            )
        progress = max(progress, activity.progress)
        self.activity = replace(activity, stage=stage, progress=progress, changed=time.monotonic())
        self._events.publish(job.id, "progress", {"state": "running", "stage": stage, "progress": round(progress, 4)})


class Watchdog:
    """Calls `on_stall` once if the worker shows no progress for `limit` seconds."""

    def __init__(self, worker: Worker, limit: float, on_stall: Callable[[], None]) -> None:
        self._worker = worker
        self._limit = limit
        self._on_stall = on_stall
        self._ended = threading.Event()
        self.stalled = False

    def start(self) -> None:
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(min(self._limit / 4, 5.0)):
            if self._worker.stalled_seconds() > self._limit:
                self.stalled = True
                _log.critical("no progress for %.0f seconds; the process ends", self._limit)
                self._on_stall()
                return
