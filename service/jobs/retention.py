"""Which results go: the oldest beyond a number, an age, or a size. Records of failures go with age and number."""

from __future__ import annotations

import time

from service.jobs.store import JobStore
from service.results.storage import Storage
from service.settings import Settings

_RECORDS_KEPT = 10_000  # of jobs that ended without a result


class Retention:
    """Keeps the results of `storage` within the settings' bounds."""

    def __init__(self, store: JobStore, storage: Storage, settings: Settings) -> None:
        self._store = store
        self._storage = storage
        self._settings = settings

    def enforce(self) -> None:
        """Remove what is too old or too much. A result's record goes first, so nothing half-removed is ever served."""
        ended = self._store.ended()
        results = [job for job in ended if job.state == "succeeded"]
        others = [job for job in ended if job.state != "succeeded"]
        gone = {job.id for job in results[: max(len(results) - self._settings.keep, 0)]}
        gone |= {job.id for job in others[: max(len(others) - _RECORDS_KEPT, 0)]}
        if self._settings.keep_hours is not None:
            oldest = time.time() - 3600 * self._settings.keep_hours
            gone |= {job.id for job in ended if (job.finished or 0.0) < oldest}
        sizes = self._storage.sizes()
        left = [job.id for job in results if job.id not in gone]
        total = sum(sizes.get(id, 0) for id in left)
        for id in left[:-1]:  # the newest stays, however large
            if total <= self._settings.keep_bytes:
                break
            gone.add(id)
            total -= sizes.get(id, 0)
        for id in gone:
            self._store.forget(id)
            self._storage.remove(id)

    def recover(self) -> None:
        """After a start: drop what no job stands for, and records whose result is missing."""
        self._store.recover()
        ended = self._store.ended()
        finished = {job.id for job in ended if job.state == "succeeded"}
        waiting = {job.id for job in self._store.waiting()}
        for id in self._storage.sweep(waiting, finished):
            self._store.forget(id)
        self.enforce()
