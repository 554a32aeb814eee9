"""Who may send a request now: a place in the bounded queue while a request is read, until it is a
job."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from service.access import Client
from service.clock import clock
from service.errors import QueueFull
from service.jobs.bounds import Held
from service.jobs.store import JobStore
from service.storage.folder import Storage


@dataclass
class UploadSlot:
    """A request's place in the queue until it is a job. `job` is the one that goes with whoever
    asked for it."""

    client: Client
    held: int = 0
    left: bool = False
    job: str | None = None


class Admission:
    """Hands out at most `max_uploads` slots. `cancel` ends the job of somebody who went away."""

    def __init__(
        self, store: JobStore, storage: Storage, max_uploads: int, cancel: Callable[[str], object]
    ) -> None:
        self._store = store
        self._storage = storage
        self._max_uploads = max_uploads
        self._cancel = cancel
        self._uploads: Counter[str] = Counter()  # by client
        self._turn = threading.Lock()  # held while the store is asked: never on the event loop
        self._count = threading.Lock()

    def uploads(self, client: str | None = None) -> int:
        """How many requests are being read, of a client or of all."""
        return self._uploads.total() if client is None else self._uploads[client]

    def under_way(self) -> int:
        """Requests that are being read, jobs that wait, jobs that run."""
        with self._turn:
            return self._store.depth() + self._uploads.total()

    @asynccontextmanager
    async def slot(self, client: Client) -> AsyncIterator[UploadSlot]:
        """Hold a place in the queue while a request is read. Raises QueueFull, QuotaExceeded,
        StorageFull."""
        slot = UploadSlot(client)
        try:
            await asyncio.to_thread(self._admit, slot)
            yield slot
        except asyncio.CancelledError:
            job = self._leave(slot)
            if job is not None:
                await asyncio.shield(asyncio.to_thread(self._cancel, job))
            raise
        finally:
            self._leave(slot)

    @contextmanager
    def settling(self, slot: UploadSlot) -> Iterator[Callable[[str | None], bool]]:
        """Let nobody else in while the slot's request becomes a job. Gives what is then called with
        the job that goes with whoever asked, if one does: it returns whether that job has to go,
        for who asked has."""

        def settle(job: str | None) -> bool:
            with self._count:
                self._give_back(slot)
                slot.job = job
                return slot.left and job is not None

        with self._turn:
            yield settle

    def _admit(self, slot: UploadSlot) -> None:
        client = slot.client
        self._storage.check_room()
        self._store.check_quota(client.name, client.quota, clock.now())
        with self._turn:
            own, all = self._uploads[client.name], self._uploads.total()
            free = self._max_uploads - all
            if free < 1 or (client.limited and own >= free):
                raise QueueFull(
                    f"{all} requests are being read, {own} of them yours; no more are read now.",
                    max_uploads=self._max_uploads,
                )
            share = Held(client.name, own, all) if client.limited else None
            self._store.check_room(all, share)
            with self._count:
                slot.held = 0 if slot.left else 1  # who asked may be gone by now
                self._uploads[client.name] += slot.held

    def _leave(self, slot: UploadSlot) -> str | None:
        """Who asked needs the slot no more; returns the job that goes with them, if it is there."""
        with self._count:
            self._give_back(slot)
            slot.left = True
            return slot.job

    def _give_back(self, slot: UploadSlot) -> None:
        name = slot.client.name
        self._uploads[name] -= slot.held
        slot.held = 0
        if not self._uploads[name]:
            del self._uploads[name]
