"""Why a request is not taken now, though it may be later."""

from __future__ import annotations

from service.errors.error import Unavailable


class QueueFull(Unavailable):
    """As many requests wait as the queue holds. Ask again later; the answer says when."""

    code = "queue-full"


class QuotaExceeded(Unavailable):
    """This API key has used what it may use for now. Ask again later, as the answer says, or
    remove results if they take too much."""

    code = "quota-exceeded"


class NotReady(Unavailable):
    """The model is still being loaded or warmed up. Ask again in a moment."""

    code = "not-ready"


class Draining(Unavailable):
    """The service is shutting down: it finishes what runs and keeps what waits, but takes nothing
    new. Ask again once it is back."""

    code = "draining"
    retry_after = 30.0


class Wedged(Unavailable):
    """The network has shown no progress for too long; the process ends so that it can be started
    afresh. Ask again once it is back."""

    code = "worker-stuck"
    retry_after = 30.0


class StoreUnavailable(Unavailable):
    """The database of jobs, or the object store that replicas share, can't be used now. Ask again
    later."""

    code = "store-unavailable"


class TooManyConnections(Unavailable):
    """As many connections are open as the service takes; only its health is answered beyond them.
    Ask again in a moment, and use one connection for several requests."""

    code = "too-many-connections"


class ExportsBusy(Unavailable):
    """As many files are being made as memory allows, and enough requests wait for theirs. Ask again
    in a moment."""

    code = "exports-busy"


class OutOfMemory(Unavailable):
    """The device ran out of memory even after smaller chunks and a lower resolution. The service
    goes on. Send fewer or smaller pictures, or try again later."""

    code = "out-of-memory"


class StorageFull(Unavailable):
    """The disk that holds results is full. Nothing half-written is kept. Ask again later, or remove
    results that you no longer need."""

    code = "storage-full"
    retry_after = 60.0
