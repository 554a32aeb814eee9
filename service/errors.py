"""Every refusal and failure that whoever uses the service can meet, as plain exceptions.

Each kind has a code that never changes. Its docstring says what happened and what to do about it;
`ServiceError.meaning` hands that out. What becomes of an error (an HTTP status, an exit status) is
the business of the front end that answers it.
"""

from __future__ import annotations

import errno
import inspect
import os
import re
from typing import Any, ClassVar


class ServiceError(Exception):
    """The service met a condition that it did not expect. Nothing about the request needs to
    change; the service's log says more."""

    code: ClassVar[str] = "internal-error"
    retry_after: float | None = None
    """Seconds after which it makes sense to ask again, where it does."""

    def __init__(self, message: str, *, retry_after: float | None = None, **fields: Any) -> None:
        """`fields` are facts about this error as plain data: a limit, the number of a picture."""
        super().__init__(message)
        self.message = message
        self.fields = fields
        if retry_after is not None:
            self.retry_after = retry_after

    @classmethod
    def meaning(cls) -> str:
        """What happened and what to do about it."""
        return " ".join(inspect.cleandoc(cls.__doc__ or "").split())

    def record(self) -> dict[str, Any]:
        """Plain data for JSON, from which `restored` makes the error again."""
        return {"code": self.code, "message": self.message, "fields": self.fields}


class Refusal(ServiceError):
    """The request can't be taken as it is."""


class Unavailable(ServiceError):
    """The request can't be taken now; later it may."""

    retry_after = 5.0


class MalformedBody(Refusal):
    """The body is not well-formed multipart/form-data: no boundary, a broken part header, or it
    ends early. Let an HTTP library build the form."""

    code = "malformed-body"


class KeyRequired(Refusal):
    """This service wants an API key, and none was given or one that it does not know. Send a key as
    ``Authorization: Bearer …``; whoever runs the service hands them out."""

    code = "key-required"


class NotYours(Refusal):
    """Whoever knows the address of a reconstruction may look at it, but only who made it may name
    or remove it: the browser that sent the pictures, or whoever sends the same ``Owner-Token``."""

    code = "not-yours"


class CrossSite(Refusal):
    """A web page of another site asked. Only the service's own page may, and those of the sites
    that whoever runs the service has named."""

    code = "cross-site"


class UnknownHost(Refusal):
    """The service was called by a name that is not its own. It listens on its own machine only, so
    that may be an attack on whoever uses it. If the name is right, whoever runs the service adds it
    with ``--allowed-hosts``."""

    code = "unknown-host"


class NotFound(Refusal):
    """There is no such reconstruction, picture or file: it was never made, it was removed by age,
    size or DELETE, or it is another client's. Send the pictures again."""

    code = "not-found"


class NotAcceptable(Refusal):
    """The Accept header names no media type in which this exists. Ask for one of ``available``."""

    code = "not-acceptable"


class UploadTimeout(Refusal):
    """The body, with what its URLs name, took longer to arrive than the service waits. Send fewer
    or smaller files."""

    code = "upload-timeout"


class NotFinished(ServiceError):
    """The reconstruction has no result yet. Follow its events, or ask again a little later."""

    code = "not-finished"


class Cancelled(ServiceError):
    """The reconstruction was cancelled before it was done. Send the pictures again if you still
    want it."""

    code = "cancelled"


class TooManyPictures(Refusal):
    """There are more pictures in one request than the service accepts. Send at most
    ``max_images``."""

    code = "too-many-pictures"


class TooManyBytes(Refusal):
    """A picture, an option, an archive once unpacked, or the whole body has more bytes than the
    service accepts. Send smaller or fewer pictures; the limit is a field of the answer."""

    code = "too-many-bytes"


class TooManyPixels(Refusal):
    """A picture, or all of them together, have more pixels than the service decodes. Scale them
    down; the network sees them much smaller anyway."""

    code = "too-many-pixels"


class TooMuchMemory(Refusal):
    """Not even in the smallest chunks and at the lowest resolution do these pictures fit into the
    memory budget. Send pictures that are less wide or less high."""

    code = "too-much-memory"


class TooMuchTime(Refusal):
    """The reconstruction is predicted to take longer than the service lets any take. Send fewer
    pictures, or have them run with fewer keys or frames a pass (``attention_keys``, ``passes``);
    ``dry_run`` predicts it."""

    code = "too-much-time"


class UnsupportedBody(Refusal):
    """The body has another content type than multipart/form-data. Send the pictures as a form."""

    code = "unsupported-body"


class UnsupportedPicture(Refusal):
    """A file is no picture, archive or video, or one in a format that the service does not read.
    ``/capabilities`` lists the formats."""

    code = "unsupported-picture"


class RangeNotSatisfiable(Refusal):
    """The Range header asks for bytes beyond the end of the file. Its length is ``bytes``."""

    code = "range-not-satisfiable"


class NoPictures(Refusal):
    """The form has no part named ``images``, ``files``, ``archive``, ``video`` or ``urls``, or an
    archive is empty. Add one file part named ``images`` for each picture."""

    code = "no-pictures"


class BrokenPicture(Refusal):
    """A file starts like a picture but can't be decoded: it is empty, cut off, damaged or of an
    absurd shape. Send it again, or leave it out."""

    code = "broken-picture"


class BrokenArchive(Refusal):
    """A zip archive can't be used: it is damaged, encrypted, nested, or has names that lead out of
    its folder. Send the pictures themselves, or a plain zip archive of them."""

    code = "broken-archive"


class BrokenVideo(Refusal):
    """A video can't be decoded within the limits of time and memory, or has no sharp frame. Send a
    shorter one, or single pictures of it."""

    code = "broken-video"


class InvalidOption(Refusal):
    """A form field, query option, header or path segment has an unknown name or a value out of its
    range. ``option`` names it; ``/capabilities`` lists what there is."""

    code = "invalid-option"


class URLsOff(Refusal):
    """The form names pictures by URL, which this service does not fetch; ``/capabilities`` says
    so. Send the files."""

    code = "urls-off"


class URLRefused(Refusal):
    """A URL, or one that it redirects to, is never fetched from here; ``detail`` says why and
    ``index`` for which picture. Without a list of hosts only ``https://`` URLs of public servers on
    port 443 are fetched, with one only those servers; never with a user name, never from https to
    http. Send the file itself."""

    code = "url-refused"


class NoTracks(Refusal):
    """Query points were sent, but this model has no track head; ``/capabilities`` lists its heads.
    Leave ``query_points`` out."""

    code = "no-tracks"


class NotInResult(Refusal):
    """The file is made of refined cameras or dense depth, which this result does not have, or by a
    package that this service lacks; ``detail`` says which. ``refinement`` in the result's document
    says why nothing was refined. Send the pictures again with ``refine=dense``."""

    code = "not-in-result"


class FetchFailed(Refusal):
    """A URL was asked for and gave no file: no such server, not in time, an error or redirects
    instead, or cut off. Which of them is not told where it would say something about the service's
    own network. Try again later, or send the file itself."""

    code = "fetch-failed"


class KeyReused(Refusal):
    """The Idempotency-Key was used before with other pictures or options. Use a new key for a new
    request."""

    code = "idempotency-key-reused"


class QueueFull(Unavailable):
    """As many requests wait as the queue holds. Ask again later; the answer says when."""

    code = "queue-full"


class QuotaExceeded(Unavailable):
    """This API key has used what it may use for now. Ask again later, as the answer says, or
    remove results if they take too much."""

    code = "quota-exceeded"


class NonFiniteOutput(ServiceError):
    """The network's answer for these pictures holds infinities or NaN, so no cameras can be given.
    Send other pictures."""

    code = "non-finite-output"


class Interrupted(ServiceError):
    """The service, or its replica of the network, ended more than once while it worked on this
    reconstruction. Send fewer pictures, or try again later."""

    code = "interrupted"


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


class DeadlineExceeded(ServiceError):
    """The reconstruction was not done within its time limit and was stopped. Send fewer pictures,
    or allow more time."""

    code = "deadline-exceeded"


class StorageFull(Unavailable):
    """The disk that holds results is full. Nothing half-written is kept. Ask again later, or remove
    results that you no longer need."""

    code = "storage-full"
    retry_after = 60.0


class DeviceLost(ServiceError):
    """The device that the network runs on has failed. The process ends and starts again, and what
    it worked on is done again. Ask again in a moment."""

    code = "device-lost"


class ModelUnavailable(ServiceError):
    """The model that this reconstruction was accepted for is not served any more, or its files
    can't be read. Send the pictures again and name another model; GET /models lists them."""

    code = "model-unavailable"


class ResultDamaged(ServiceError):
    """The files of this reconstruction were changed or cut off on the service's disk, so they are
    not given out. Send the pictures again: they are reconstructed anew."""

    code = "result-damaged"


_FULL = re.compile(
    "|".join(
        (
            re.escape(os.strerror(errno.ENOSPC)),
            re.escape(os.strerror(errno.EDQUOT)),
            r"\d+ requested and \d+ written",  # NumPy, which tells no more
        )
    ),
    re.IGNORECASE,
)


def is_full(error: BaseException) -> bool:
    """Whether an error means that a disk or a quota is full. Only some libraries pass on the
    system's number; others put its message into one of their own."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return _FULL.search(str(error)) is not None


def disk_full() -> StorageFull:
    """What to say when there is no room for what a request needs."""
    return StorageFull("The disk is full; nothing was kept.")


def gone() -> NotFound:
    """What to say of a reconstruction that is not there."""
    return NotFound("There is no reconstruction of this id; it may have been removed to make room.")


def restored(record: dict[str, Any]) -> ServiceError:
    """The error that was recorded, also as the problem document that older versions recorded."""
    if "code" in record:
        code, message, fields = record["code"], record["message"], record["fields"]
    else:
        code, message = record["type"].rpartition("/")[2], record["detail"]
        known = ("type", "title", "status", "detail")
        fields = {name: value for name, value in record.items() if name not in known}
    return ERRORS.get(code, ServiceError)(message, **fields)


ERRORS: dict[str, type[ServiceError]] = {ServiceError.code: ServiceError} | {
    kind.code: kind
    for base in (Refusal, Unavailable, ServiceError)
    for kind in base.__subclasses__()
    if kind not in (Refusal, Unavailable)
}
"""Every kind of error by its code."""
