"""Every refusal and failure that a client can meet, as RFC 9457 problem details.

One class per problem; the HTTP status, the title and the stable part of the type URI are attributes of the
class. ``GET /problems/{slug}`` explains a type in words, taken from the docstring of its class.
"""

from __future__ import annotations

import json
import logging
import math
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEDIA_TYPE = "application/problem+json"

_log = logging.getLogger("service")


class Problem(Exception):  # noqa: N818 - the RFC's word
    """The service met a condition that it did not expect. Nothing about the request needs to change."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    slug: ClassVar[str] = "internal-error"

    def __init__(self, detail: str, *, headers: dict[str, str] | None = None, **fields: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers or {}
        self.fields = fields

    def document(self) -> dict[str, Any]:
        return {
            "type": f"/problems/{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.fields,
        }

    def response(self) -> Response:
        return Response(
            json.dumps(self.document()),
            status_code=self.status,
            headers=self.headers,
            media_type=MEDIA_TYPE,
        )


class MalformedBody(Problem):
    """The body is not well-formed multipart/form-data: no boundary, a broken part header, or it ends early."""

    status, title, slug = 400, "Malformed body", "malformed-body"


class KeyRequired(Problem):
    """This service wants an API key: ``Authorization: Bearer …``. None was given, or one that it does not know."""

    status, title, slug = 401, "API key required", "key-required"


class NotFound(Problem):
    """No such reconstruction, picture or file: never made, removed by age, size or DELETE, or another client's."""

    status, title, slug = 404, "Not found", "not-found"


class NotAcceptable(Problem):
    """The Accept header names no media type in which this resource exists; ``available`` lists those that do."""

    status, title, slug = 406, "Not acceptable", "not-acceptable"


class UploadTimeout(Problem):
    """The body, with what its URLs name, took longer to arrive than the service waits. Send fewer or smaller files."""

    status, title, slug = 408, "Upload took too long", "upload-timeout"


class NotFinished(Problem):
    """The reconstruction has no result yet. Follow its events, or ask again after ``Retry-After`` seconds."""

    status, title, slug = 409, "Not finished", "not-finished"


class Cancelled(Problem):
    """The reconstruction was cancelled by DELETE before it was done."""

    status, title, slug = 409, "Cancelled", "cancelled"


class TooManyPictures(Problem):
    """More pictures in one request than the service accepts; ``max_images`` says how many it does."""

    status, title, slug = 413, "Too many pictures", "too-many-pictures"


class TooManyBytes(Problem):
    """A picture, an option, an archive once unpacked, or the whole body has more bytes than the service accepts."""

    status, title, slug = 413, "Too many bytes", "too-many-bytes"


class TooManyPixels(Problem):
    """A picture, or all of them together, has more pixels than the service decodes. Read from the header."""

    status, title, slug = 413, "Too many pixels", "too-many-pixels"


class TooMuchMemory(Problem):
    """Not even in the smallest chunks and the lowest resolution do these pictures fit into the memory budget."""

    status, title, slug = 413, "Too much memory", "too-much-memory"


class UnsupportedBody(Problem):
    """The body has another content type than multipart/form-data."""

    status, title, slug = 415, "Unsupported body", "unsupported-body"


class UnsupportedPicture(Problem):
    """A file is not a picture, archive or video, or one in a format that the service does not read."""

    status, title, slug = 415, "Not a supported picture", "unsupported-picture"


class RangeNotSatisfiable(Problem):
    """The Range header asks for bytes beyond the end of the file."""

    status, title, slug = 416, "Range not satisfiable", "range-not-satisfiable"


class NoPictures(Problem):
    """The form has no part named ``images``, ``files``, ``archive``, ``video`` or ``urls``, or an archive is empty."""

    status, title, slug = 422, "No pictures", "no-pictures"


class BrokenPicture(Problem):
    """A file starts like a picture but can't be decoded: empty, truncated, damaged or of an absurd shape."""

    status, title, slug = 422, "Broken picture", "broken-picture"


class BrokenArchive(Problem):
    """A zip archive can't be used: damaged, encrypted, nested, or with names that leave its folder."""

    status, title, slug = 422, "Broken archive", "broken-archive"


class BrokenVideo(Problem):
    """A video can't be decoded within the limits of time and memory, or holds no sharp frame."""

    status, title, slug = 422, "Broken video", "broken-video"


class InvalidOption(Problem):
    """A form field, query option, header or path segment has an unknown name or a value outside its range."""

    status, title, slug = 422, "Invalid option", "invalid-option"


class URLsOff(Problem):
    """The form names pictures by URL, which this service does not fetch; ``/capabilities`` says so. Send the files."""

    status, title, slug = 422, "URLs not fetched", "urls-off"


class URLRefused(Problem):
    """A URL, or one that it redirects to, is never fetched from here; ``detail`` says why, ``index`` which picture.

    Without a list of hosts only ``https://`` URLs of public servers on port 443 are fetched, with one only those
    servers; never with a user name, never from https to http. Send the file itself.
    """

    status, title, slug = 422, "URL refused", "url-refused"


class NoTracks(Problem):
    """Query points were sent, but this model has no track head; ``/capabilities`` lists its heads."""

    status, title, slug = 422, "No track head", "no-tracks"


class FetchFailed(Problem):
    """A URL was asked for and gave no file: no such server, not in time, an error or redirects instead, or cut off.

    Which of them it was is not told where it would say something about the service's own network. Try again later,
    or send the file itself.
    """

    status, title, slug = 424, "URL gave no file", "fetch-failed"


class KeyReused(Problem):
    """The Idempotency-Key was used before with other pictures or options. Use a new key for a new request."""

    status, title, slug = 422, "Idempotency key reused", "idempotency-key-reused"


class QueueFull(Problem):
    """As many requests wait as the queue holds. Ask again after ``Retry-After`` seconds."""

    status, title, slug = 429, "Queue full", "queue-full"


class QuotaExceeded(Problem):
    """This API key has used what it may use for now. Ask again after ``Retry-After`` seconds."""

    status, title, slug = 429, "Quota exceeded", "quota-exceeded"


class NonFiniteOutput(Problem):
    """The network's answer for these pictures holds infinities or NaN, so no cameras can be given."""

    status, title, slug = 500, "Non-finite model output", "non-finite-output"


class Interrupted(Problem):
    """The service, or its replica of the network, ended in mid-work more than once with this reconstruction."""

    status, title, slug = 500, "Interrupted", "interrupted"


class NotReady(Problem):
    """The model is still being loaded or warmed up. Ask again after ``Retry-After`` seconds."""

    status, title, slug = 503, "Not ready", "not-ready"


class Draining(Problem):
    """The service is shutting down: it finishes what runs and keeps what waits, but takes nothing new."""

    status, title, slug = 503, "Shutting down", "draining"


class Wedged(Problem):
    """The network has shown no progress for too long; the process ends so that it can be started afresh."""

    status, title, slug = 503, "Worker stuck", "worker-stuck"


class StoreUnavailable(Problem):
    """The database or the object store that the replicas share can't be reached. Ask again after ``Retry-After``."""

    status, title, slug = 503, "Store unavailable", "store-unavailable"


class OutOfMemory(Problem):
    """The device ran out of memory even after smaller chunks and a lower resolution. The service goes on."""

    status, title, slug = 503, "Out of memory", "out-of-memory"


class DeadlineExceeded(Problem):
    """The reconstruction was not done within its time limit and was stopped."""

    status, title, slug = 504, "Deadline exceeded", "deadline-exceeded"


class StorageFull(Problem):
    """The disk that holds results is full. Nothing half-written is kept; ask again after ``Retry-After`` seconds."""

    status, title, slug = 507, "Storage full", "storage-full"


RETRY_SECONDS = 5
"""What ``Retry-After`` says where nothing better is known."""

_KINDS: list[type[Problem]] = [Problem, *Problem.__subclasses__()]
PROBLEMS = {kind.slug: kind for kind in _KINDS}


def restored(document: dict[str, Any], headers: dict[str, str]) -> Problem:
    """The problem that was stored as `document`."""
    fields = {key: value for key, value in document.items() if key not in ("type", "title", "status", "detail")}
    kind = PROBLEMS.get(document["type"].rpartition("/")[2], Problem)
    return kind(document["detail"], headers=headers, **fields)


def retry_after(seconds: float = RETRY_SECONDS) -> dict[str, str]:
    """The ``Retry-After`` header, whole seconds, at least 1."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def answer_problems(app: FastAPI) -> None:
    """Make `app` answer every error, its own and the framework's, as a problem document."""
    app.add_middleware(_AnswerUnexpected)

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name = str(first["loc"][-1])
        message = first["msg"].removeprefix("Value error, ")
        return InvalidOption(f"{name}: {message}; {str(first['input'])[:40]!r} was given.", option=name).response()

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        document = {"type": "about:blank", "title": error.detail, "status": error.status_code}
        return JSONResponse(document, error.status_code, headers=error.headers, media_type=MEDIA_TYPE)

    @app.exception_handler(ClientDisconnect)
    async def disconnected(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it


class _AnswerUnexpected:
    """Logs what nothing else caught and answers it as a problem.

    Starlette's own last resort raises the error once more after its answer, and the server then drops the connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            if scope["type"] != "http" or started:
                raise
            _log.exception("unexpected error in %s %s", scope["method"], scope["path"])
            problem = Problem("The service met a condition that it did not expect; its log says more.")
            await problem.response()(scope, receive, send)
