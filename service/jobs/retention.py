"""Which results go: beyond a number or a size the oldest of whoever has most, and beyond an age.
Records of failures go with age and number."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from service.clock import clock
from service.jobs.job import Job
from service.jobs.store import JobStore
from service.settings import StorageSettings
from service.states import JobState
from service.storage.folder import Known, Storage

_RECORDS_KEPT = 10_000  # of jobs that ended without a result
_SWEEP_SECONDS = 3600.0


class RecordsMissingError(RuntimeError):
    """There are results, but the database that knows whose they are is empty."""


class Retention:
    """Keeps the results of `storage` within the settings' bounds."""

    def __init__(self, store: JobStore, storage: Storage, settings: StorageSettings) -> None:
        self._store = store
        self._storage = storage
        self._settings = settings
        self._next_sweep = 0.0
        self._counting = threading.Lock()
        self._results, self._bytes = 0, 0  # as far as they are known here

    def added(self, bytes: int) -> None:
        """A result of so many bytes was added: `enforce`, if that may be too much."""
        with self._counting:
            self._results += 1
            self._bytes += bytes
            too_much = (
                self._results > self._settings.keep or self._bytes > self._settings.keep_bytes
            )
        if too_much:
            self.enforce()

    def enforce(self) -> None:
        """Remove what is too old or too much."""
        ended = self._store.ended()
        results = [job for job in ended if job.state == JobState.SUCCEEDED]
        others = [job for job in ended if job.state != JobState.SUCCEEDED]
        gone = {job.id: job for job in others[: max(len(others) - _RECORDS_KEPT, 0)]}
        if self._settings.keep_hours is not None:
            oldest = clock.now() - 3600 * self._settings.keep_hours
            gone |= {job.id: job for job in ended if (job.finished or 0.0) < oldest}
        left = [job for job in results if job.id not in gone]
        sizes = self._storage.sizes({job.result: job.bytes for job in left})
        surplus = _surplus(left, sizes, self._settings.keep, self._settings.keep_bytes)
        gone |= {job.id: job for job in surplus}
        total = sum(sizes[job.result] for job in left if job.id not in gone)
        for job in gone.values():
            self._storage.remove(job.result)  # first: a full disk has no room to record anything
            self._store.forget(job.id)
        with self._counting:
            self._results, self._bytes = sum(job.id not in gone for job in left), total

    def tidy(self) -> None:
        """What is due every now and then: `enforce`, and where replicas share the storage, once an
        hour `sweep`."""
        if self._storage.shared and time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + _SWEEP_SECONDS
            self.sweep()
        self._storage.sweep_removed()
        self.enforce()

    def recover(self) -> None:
        """After a start: drop what no job stands for, and records whose result is missing. Raises
        RecordsMissingError if that would be everything, for nothing is on record."""
        if self._store.unused:
            if self._storage.holds_results():
                raise RecordsMissingError(
                    f"there are results in {self._storage.place}, but the database of jobs is "
                    "empty and would have them all removed. Put back a copy of the database, or "
                    "move the results away"
                )
            self._store.begin()
        self._store.recover()
        if not self._storage.shared:
            self.sweep()
        self.enforce()

    def sweep(self) -> None:
        """Remove from the storage what no job stands for, and records whose result is missing."""
        lost = self._storage.sweep(self._known)
        for job in self._store.ended():
            if job.state == JobState.SUCCEEDED and job.result in lost:
                self._store.forget(job.id)

    def _known(self) -> Known:
        waiting, ended = self._store.waiting(), self._store.ended()
        results = {job.result for job in waiting if job.state != JobState.QUEUED}
        results |= {job.result for job in ended if job.state == JobState.SUCCEEDED}
        return Known({job.id for job in waiting}, results)


def _surplus(
    results: Sequence[Job], sizes: Mapping[str, int], keep: int, keep_bytes: int
) -> list[Job]:
    """Which of the `results`, oldest first, are too many or too large: always the oldest of the
    client that has most, so that nobody's results go for another's. The newest stays, however
    large."""
    if not results:
        return []
    newest = results[-1]
    queues: dict[str, deque[Job]] = {}
    for job in results:
        queues.setdefault(job.client, deque()).append(job)
    bytes = {name: sum(sizes[job.result] for job in queue) for name, queue in queues.items()}
    gone: list[Job] = []

    def drop(holds: Callable[[str], int]) -> bool:
        """Drop the oldest of whoever `holds` most; False if only the newest is left."""
        others = [name for name, queue in queues.items() if queue and queue[0] is not newest]
        if not others:
            return False
        job = queues[max(others, key=holds)].popleft()
        bytes[job.client] -= sizes[job.result]
        gone.append(job)
        return True

    while len(results) - len(gone) > keep and drop(lambda name: len(queues[name])):
        pass
    while sum(bytes.values()) > keep_bytes and drop(lambda name: bytes[name]):
        pass
    return gone
