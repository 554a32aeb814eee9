"""The threads that work on jobs, in the order of their acceptance, and what watches over them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

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
    """What is done on one job now: its stage, the share done, and when that last changed (monotonic)."""

    job: Job
    stage: str
    progress: float
    changed: float


class Worker:
    """Runs `work` for every queued job of `store` until `stop`, `lanes` of them at a time."""

    def __init__(
        self,
        store: JobStore,
        storage: Storage,
        work: Work,
        retention: Retention,
        events: Events,
        metrics: Metrics,
        lanes: int = 1,
    ) -> None:
        self._store = store
        self._storage = storage
        self._work = work
        self._retention = retention
        self._events = events
        self._metrics = metrics
        self._news = threading.Condition()
        self._news_count = 0
        self._draining = threading.Event()
        self._aborting = threading.Event()
        self._cancelled: set[str] = set()
        self._activities: dict[str, Activity] = {}
        self._threads = [
            threading.Thread(target=self._run, name=f"worker-{lane}", daemon=True) for lane in range(lanes)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def notify(self) -> None:
        """There may be a new job."""
        with self._news:
            self._news_count += 1
            self._news.notify_all()

    def cancel(self, id: str) -> None:
        """Stop working on the job at its next step, if it is worked on here."""
        self._cancelled.add(id)

    def drain(self) -> None:
        """Take no further job."""
        self._draining.set()
        self.notify()

    def stop(self, patience: float) -> bool:
        """Drain, give what runs `patience` seconds, then put it back into the queue. False if it won't end."""
        self.drain()
        self._join(patience)
        self._aborting.set()
        return self._join(max(patience, 5.0))

    def _join(self, patience: float) -> bool:
        """Whether every thread has ended within `patience` seconds."""
        until = time.monotonic() + patience
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(until - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def lanes(self) -> int:
        """How many jobs run at a time."""
        return len(self._threads)

    @property
    def busy(self) -> bool:
        return bool(self._activities)

    def activity(self, id: str) -> Activity | None:
        """What is done on the job here and now."""
        return self._activities.get(id)

    def stalled_seconds(self) -> float:
        """How long a running job has shown no progress, the slowest one's; 0 while idle."""
        now = time.monotonic()
        return max((now - activity.changed for activity in [*self._activities.values()]), default=0.0)

    def _run(self) -> None:
        while not self._draining.is_set():
            heard = self._news_count
            job = self._store.claim()
            if job is None:
                self._wait_for_news(heard)
                continue
            try:
                self._one(job)
            except Exception:  # the thread must outlive whatever a full disk or a broken job does to its bookkeeping
                _log.exception("job %s could not be recorded", job.id)
                time.sleep(_IDLE_SECONDS)

    def _wait_for_news(self, heard: int) -> None:
        with self._news:
            self._news.wait_for(lambda: self._news_count != heard, _IDLE_SECONDS)

    def _one(self, job: Job) -> None:
        began = time.monotonic()
        self._metrics.queue_wait.observe(max(time.time() - job.created, 0.0))
        self._events.publish(job.id, "state", {"state": "running", "progress": 0.0})
        self._activities[job.id] = Activity(job, "decode", 0.0, began)
        state: State = "failed"
        problem: Problem | None = None
        timings: dict[str, float] = {}
        try:
            with tracer.start_as_current_span("reconstruction", attributes={"id": job.id, "frames": job.frames}):
                timings = self._work.do(job, partial(self._report, job))
            state = "cancelled" if job.id in self._cancelled else "succeeded"
        except _Stopped:
            if self._aborting.is_set() and job.id not in self._cancelled:
                self._store.requeue(job.id)
                return
            state = "cancelled"
            self._metrics.cancelled.labels("running").inc()
        except Problem as error:
            problem = error
        except Exception:
            _log.exception("unexpected error in job %s", job.id)
            problem = Problem("The service met a condition that it did not expect; its log says more.")
        finally:
            del self._activities[job.id]
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

    def _report(self, job: Job, stage: str, progress: float) -> None:
        activity = self._activities[job.id]
        if job.id in self._cancelled or self._aborting.is_set():
            raise _Stopped
        if time.time() > job.deadline:
            raise DeadlineExceeded(
                f"The reconstruction was stopped after its {job.deadline - job.created:g} seconds, "
                f"at {progress:.0%} in stage {stage}."
            )
        progress = max(progress, activity.progress)
        self._activities[job.id] = replace(activity, stage=stage, progress=progress, changed=time.monotonic())
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
