"""Which results go: the oldest beyond a number, an age, or a size. Records of failures go with age
and number."""

from __future__ import annotations

import threading
import time

from service.jobs.store import JobStore
from service.settings import StorageSettings
from service.states import JobState
from service.storage.folder import Known, Storage

_RECORDS_KEPT = 10_000  # of jobs that ended without a result
_SWEEP_SECONDS = 3600.0


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
        """Remove what is too old or too much. A result's record goes first, so nothing half-removed
        is ever served."""
        ended = self._store.ended()
        results = [job for job in ended if job.state == JobState.SUCCEEDED]
        others = [job for job in ended if job.state != JobState.SUCCEEDED]
        surplus = (
            results[: max(len(results) - self._settings.keep, 0)]
            + others[: max(len(others) - _RECORDS_KEPT, 0)]
        )
        gone = {job.id: job for job in surplus}
        if self._settings.keep_hours is not None:
            oldest = time.time() - 3600 * self._settings.keep_hours
            gone |= {job.id: job for job in ended if (job.finished or 0.0) < oldest}
        left = [job for job in results if job.id not in gone]
        sizes = self._storage.sizes({job.result: job.bytes for job in left})
        total = sum(sizes.values())
        for job in left[:-1]:  # the newest stays, however large
            if total <= self._settings.keep_bytes:
                break
            gone[job.id] = job
            total -= sizes[job.result]
        for job in gone.values():
            self._store.forget(job.id)
            self._storage.remove(job.result)
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
        """After a start: drop what no job stands for, and records whose result is missing."""
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
