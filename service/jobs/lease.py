"""What replicas tell each other about running jobs, through the database: who works on what, and
how far it is."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from service.errors import StoreUnavailable
from service.jobs.events import Events
from service.jobs.job import Job
from service.jobs.store import JobStore
from service.jobs.worker import Worker
from service.states import JobState

_BEATS = 4  # at least so many to a lease
_LONGEST_BEAT = 1.0
_LOOK_SECONDS = 0.5

_log = logging.getLogger("service")


class Heartbeat:
    """Renews the leases of the jobs that run here, records how far they are, and passes on what
    others decided."""

    def __init__(self, store: JobStore, worker: Worker, events: Events) -> None:
        self._store = store
        self._worker = worker
        self._events = events
        lease = store.lease or 0.0
        self._rounds = _Rounds("heartbeat", min(_LONGEST_BEAT, lease / _BEATS), self.beat)

    def start(self) -> None:
        self._rounds.start()

    def stop(self) -> None:
        self._rounds.stop()

    def beat(self) -> None:
        """Renew all leases once. What was cancelled is told to stop; what is another's by now is
        let go."""
        running, chunks = [], {}
        for activity in self._worker.activities():
            job = activity.job
            last, chunks[job.id] = self._events.chunks(job.id)
            running.append(
                replace(job, stage=activity.stage, progress=activity.progress, event=last)
            )
        if not running:
            return
        states = self._store.renew(running, chunks)
        for job in running:
            if states[job.id] is None:
                self._worker.let_go(job)
            elif states[job.id] == JobState.CANCELLING:
                self._worker.cancel(job.id)


class Follower:
    """Publishes here what is recorded of jobs that run elsewhere; asks only about those that
    somebody follows here."""

    def __init__(self, store: JobStore, worker: Worker, events: Events) -> None:
        self._store = store
        self._worker = worker
        self._events = events
        self._rounds = _Rounds("follower", _LOOK_SECONDS, self.look)

    def start(self) -> None:
        self._rounds.start()

    def stop(self) -> None:
        self._rounds.stop()

    def look(self) -> None:
        """Ask once."""
        ids = [id for id in self._events.awaited() if self._worker.activity(id) is None]
        if not ids:
            return
        found = self._store.several(ids)
        # after the jobs: each of them has its chunks on record, up to its latest event
        chunks = self._store.chunks({id: self._events.last_number(id) for id in ids})
        for id in ids:
            job = found.get(id)
            if job is None:
                self._events.dismiss(id)
            else:
                for event in chunks[id]:
                    self._events.publish(id, event.kind, event.data, event.number)
                self._publish(job)

    def _publish(self, job: Job) -> None:
        """The event that a job's record stands for."""
        if job.ended:
            self._events.publish_end(job)
        elif job.state == JobState.QUEUED or job.stage is None:
            news = {"state": job.state, "progress": 0.0}
            self._events.publish(job.id, "state", news, number=job.event)
        else:
            progress = round(job.progress, 4)
            news = {"state": job.state, "stage": job.stage, "progress": progress}
            self._events.publish(job.id, "progress", news, number=job.event)


class _Rounds:
    """A thread that acts every `seconds`; while the database is away it goes on trying."""

    def __init__(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        self._seconds = seconds
        self._act = act
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            try:
                self._act()
            except StoreUnavailable:
                continue  # it has been logged; leases go on if the database is back in time
            except Exception:  # the thread must outlive whatever one round met
                _log.exception("a round of the %s failed", self._thread.name)
