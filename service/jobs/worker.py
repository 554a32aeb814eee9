"""The threads that work on jobs, in the order of their acceptance, and what watches over them."""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from service.clock import clock
from service.errors import (
    DeadlineExceeded,
    DeviceLost,
    ServiceError,
    StoreUnavailable,
    Unavailable,
    disk_full,
    is_full,
)
from service.jobs.events import Events
from service.jobs.job import Job
from service.jobs.retention import Retention
from service.jobs.store import JobStore
from service.pipeline.report import FoundChunk
from service.pipeline.work import Work
from service.states import JobState
from service.storage.folder import Storage
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import tracer

_IDLE_SECONDS = 1.0
_TAKEN = "job %s was taken up by another replica; what was made of it here is dropped"

_log = logging.getLogger("service")


class _Stopped(Exception):  # noqa: N818 - not an error
    """The job was cancelled, the service can't wait for it any longer, or it is another replica's
    now."""


@dataclass(frozen=True)
class Activity:
    """What is done on one job now: its stage, the share done, and when that last changed
    (monotonic)."""

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
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
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
        self._let_go: set[tuple[str, int]] = set()
        self._activities: dict[str, Activity] = {}
        self._rounds = [math.inf] * lanes  # when each lane last looked for a job (monotonic)
        self._threads = [
            threading.Thread(target=self._run, args=(lane,), name=f"worker-{lane}", daemon=True)
            for lane in range(lanes)
        ]
        self._started = False

    def start(self) -> None:
        for thread in self._threads:
            thread.start()
        self._started = True

    def notify(self) -> None:
        """There may be a new job."""
        with self._news:
            self._news_count += 1
            self._news.notify_all()

    def cancel(self, id: str) -> None:
        """Stop working on the job at its next step; it is worked on here."""
        self._cancelled.add(id)

    def let_go(self, job: Job) -> None:
        """Stop working on the job at its next step and leave it alone: another replica has taken it
        up."""
        if job.id in self._activities:
            self._let_go.add((job.id, job.token))

    def drain(self) -> None:
        """Take no further job."""
        self._draining.set()
        self.notify()

    def stop(self, patience: float) -> bool:
        """Drain, give what runs `patience` seconds, then put it back into the queue. False if it
        won't end."""
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

    def activities(self) -> list[Activity]:
        """What is done here and now."""
        return [*self._activities.values()]

    @property
    def dead(self) -> bool:
        """Whether a thread has ended that should work on."""
        alive = all(thread.is_alive() for thread in self._threads)
        return self._started and not self._draining.is_set() and not alive

    def stalled_seconds(self) -> float:
        """How long a lane has shown no progress, the slowest one's; next to 0 while idle."""
        now = time.monotonic()
        moved = [*self._rounds, *(activity.changed for activity in self.activities())]
        return max(now - min(moved), 0.0)

    def _run(self, lane: int) -> None:
        while not self._draining.is_set():
            self._rounds[lane] = time.monotonic()
            known = self._news_count
            job = self._claim()
            if job is None:
                self._wait_for_news(known)
                continue
            self._rounds[lane] = math.inf  # the job's own progress says how it goes
            try:
                self._one(job)
            except Exception:  # while the service stops; after its start the job is done again
                _log.exception("job %s could not be recorded", job.id)
                time.sleep(_IDLE_SECONDS)
        self._rounds[lane] = math.inf

    def _claim(self) -> Job | None:
        """The next job; None, after a moment, if there is none, or none can be taken up now."""
        try:
            self._storage.check_room()  # without room for its result a job waits
            return self._store.claim(self.name, [*self._activities])
        except Unavailable as error:
            _log.warning("no job is taken up now: %s", error.message)
        except Exception:
            _log.exception("no job can be taken up; the next attempt is in a moment")
        self._draining.wait(_IDLE_SECONDS)
        return None

    def _wait_for_news(self, known: int) -> None:
        with self._news:
            self._news.wait_for(lambda: self._news_count != known, _IDLE_SECONDS)

    def _one(self, job: Job) -> None:
        began = time.monotonic()
        self._metrics.queue_wait.observe(max(clock.now() - job.created, 0.0))
        self._events.publish(
            job.id, "state", {"state": JobState.RUNNING, "progress": 0.0}, number=job.event
        )
        self._activities[job.id] = Activity(job, "decode", 0.0, began)
        try:
            self._work_on(job, began)
        except Exception:  # a job must not stay "running" when nobody works on it
            if self._aborting.is_set():
                raise
            _log.exception("what became of job %s could not be kept", job.id)
            problem = _unexpected().record()
            ended = self._insist(job, lambda: self._store.finish(job, JobState.FAILED, problem))
            if ended is not None:
                self._announce(ended, {})
        finally:
            del self._activities[job.id]

    def _work_on(self, job: Job, began: float) -> None:
        state = JobState.FAILED
        failure: ServiceError | None = None
        timings: dict[str, float] = {}
        try:
            with tracer.start_as_current_span(
                "reconstruction", attributes={"id": job.id, "frames": job.frames}
            ):
                self._report(job, "decode", 0.0)
                timings = self._work.do(job.task, partial(self._report, job))
            state = JobState.CANCELLED if job.id in self._cancelled else JobState.SUCCEEDED
        except _Stopped:
            if job.id not in self._cancelled:
                self._put_back(job)
                return
            state = JobState.CANCELLED
        except StoreUnavailable:
            _log.warning(
                "job %s goes back into the queue until what it needs can be reached", job.id
            )
            self._put_back(job)
            time.sleep(_IDLE_SECONDS)
            return
        except DeviceLost:
            # it stays "running", and its attempt counts: a job that breaks devices ends sometime
            _log.critical("job %s is left to the next process", job.id)
            return
        except ServiceError as error:
            failure = error
        except Exception as error:
            if is_full(error):
                failure = disk_full()
            else:
                _log.exception("unexpected error in job %s", job.id)
                failure = _unexpected()
        if state == JobState.CANCELLED:
            self._metrics.cancelled.labels("running").inc()
        self._end(job, state, failure, timings, began)

    def _end(
        self,
        job: Job,
        state: JobState,
        failure: ServiceError | None,
        timings: dict[str, float],
        began: float,
    ) -> None:
        """Record how the job ended, unless it is another replica's by now, and tell everybody."""
        if state != JobState.SUCCEEDED:
            self._storage.remove(job.result)
        problem = None if failure is None else failure.record()
        size = self._storage.size(job.result) if state == JobState.SUCCEEDED else 0
        last = self._events.last_number(job.id)
        ended = self._insist(job, lambda: self._store.finish(job, state, problem, last, size))
        self._cancelled.discard(job.id)
        self._let_go.discard((job.id, job.token))
        if ended is None or ended.state != state:
            self._storage.remove(job.result)
        if ended is None:
            _log.warning(_TAKEN, job.id)
            return
        seconds = time.monotonic() - began
        self._metrics.job_seconds.labels(self._metrics.frames_bucket(job.frames)).observe(seconds)
        _log.info("job %s %s after %.2f s, %d frames", job.id, ended.state, seconds, job.frames)
        self._announce(ended, timings)  # nobody has to wait until all is tidy
        self._storage.drop_incoming(job.id)
        if ended.state == JobState.SUCCEEDED:
            with suppress(Unavailable):  # then the next round does it
                self._retention.added(size)

    def _announce(self, ended: Job, timings: dict[str, float]) -> None:
        self._metrics.jobs.labels(ended.state).inc()
        self._events.publish_end(ended, timings)

    def _put_back(self, job: Job) -> None:
        """Leave the job to whoever comes next, without a trace of this attempt."""
        back = self._insist(job, lambda: self._store.requeue(job))
        self._let_go.discard((job.id, job.token))
        self._storage.remove(job.result)
        if back is None:
            _log.warning(_TAKEN, job.id)
        elif back.ended:
            self._storage.drop_incoming(job.id)
            self._announce(back, {})

    def _insist(self, job: Job, record: Callable[[], Job | None]) -> Job | None:
        """Record something about `job`, as soon as the database can be used; at a shutdown at once
        or never."""
        while True:
            try:
                return record()
            except Exception as error:
                if self._aborting.is_set():
                    raise  # after a restart, or when the lease has run out, it is done again
                if isinstance(error, Unavailable):  # it will be back: that is no reason to bark
                    self._moved(job)
                    _log.warning("job %s can't be recorded now: %s", job.id, error.message)
                else:
                    _log.exception("job %s can't be recorded; trying again", job.id)
                time.sleep(_IDLE_SECONDS)

    def _moved(self, job: Job) -> None:
        activity = self._activities[job.id]
        self._activities[job.id] = replace(activity, changed=time.monotonic())

    def _report(
        self, job: Job, stage: str, progress: float, chunk: FoundChunk | None = None
    ) -> None:
        activity = self._activities[job.id]
        if (
            job.id in self._cancelled
            or (job.id, job.token) in self._let_go
            or self._aborting.is_set()
        ):
            raise _Stopped
        if clock.now() > job.deadline:
            raise DeadlineExceeded(
                f"The reconstruction was stopped after its {job.deadline - job.created:g} seconds, "
                f"at {progress:.0%} in stage {stage}."
            )
        progress = max(progress, activity.progress)
        self._activities[job.id] = replace(
            activity, stage=stage, progress=progress, changed=time.monotonic()
        )
        news = {"state": JobState.RUNNING, "stage": stage, "progress": round(progress, 4)}
        if chunk is None:
            self._events.publish(job.id, "progress", news)
        else:
            self._events.publish(job.id, "chunk", {**news, **chunk.document()})


def _unexpected() -> ServiceError:
    return ServiceError("The service met a condition that it did not expect; its log says more.")


class Watchdog:
    """Calls `on_stall` once if the worker shows no progress for `limit` seconds, or is dead."""

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
            if self._worker.dead or self._worker.stalled_seconds() > self._limit:
                self.stalled = True
                if self._worker.dead:
                    _log.critical("a worker's thread has ended; so does the process")
                else:
                    _log.critical("no progress for %.0f seconds; the process ends", self._limit)
                self._on_stall()
                return
