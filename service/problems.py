"""Every refusal and failure that a client can meet, as RFC 9457 problem details.

One class per problem; the HTTP status, the title and the stable part of the type URI are attributes of the
class. ``GET /problems/{slug}`` explains a type in words, taken from the docstring of its class.
"""

from __future__ import annotations

import json
import logging
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


class UploadTimeout(Problem):
    """The body took longer to arrive than the service waits. Send fewer or smaller pictures."""

    status, title, slug = 408, "Upload took too long", "upload-timeout"


class TooManyPictures(Problem):
    """More pictures in one request than the service accepts; ``max_images`` says how many it does."""

    status, title, slug = 413, "Too many pictures", "too-many-pictures"


class TooManyBytes(Problem):
    """A picture, or the whole body, has more bytes than the service accepts."""

    status, title, slug = 413, "Too many bytes", "too-many-bytes"


class TooManyPixels(Problem):
    """A picture, or all of them together, has more pixels than the service decodes. Read from the header."""

    status, title, slug = 413, "Too many pixels", "too-many-pixels"


class UnsupportedBody(Problem):
    """The body has another content type than multipart/form-data."""

    status, title, slug = 415, "Unsupported body", "unsupported-body"


class UnsupportedPicture(Problem):
    """A file is not a picture, or a picture in a format that the service does not read."""

    status, title, slug = 415, "Not a supported picture", "unsupported-picture"


class NoPictures(Problem):
    """The form has no file part named ``images`` (or ``files``)."""

    status, title, slug = 422, "No pictures", "no-pictures"


class BrokenPicture(Problem):
    """A file starts like a picture but can't be decoded: empty, truncated, damaged or of an absurd shape."""

    status, title, slug = 422, "Broken picture", "broken-picture"


class InvalidOption(Problem):
    """A form field, query option or path segment has an unknown name or a value outside its range."""

    status, title, slug = 422, "Invalid option", "invalid-option"


class NotFound(Problem):
    """No such reconstruction or picture. Only the newest reconstructions are kept."""

    status, title, slug = 404, "Not found", "not-found"


class NotReady(Problem):
    """The model is still being loaded or warmed up. Ask again after ``Retry-After`` seconds."""

    status, title, slug = 503, "Not ready", "not-ready"


class QueueFull(Problem):
    """As many requests wait as the queue holds. Ask again after ``Retry-After`` seconds."""

    status, title, slug = 503, "Queue full", "queue-full"


class OutOfMemory(Problem):
    """The device has not enough memory for this many pictures. The service goes on; send fewer pictures."""

    status, title, slug = 503, "Out of memory", "out-of-memory"


class NonFiniteOutput(Problem):
    """The network's answer for these pictures holds infinities or NaN, so no cameras can be given."""

    status, title, slug = 500, "Non-finite model output", "non-finite-output"


PROBLEMS: dict[str, type[Problem]] = {
    problem.slug: problem
    for problem in (
        Problem,
        MalformedBody,
        UploadTimeout,
        TooManyPictures,
        TooManyBytes,
        TooManyPixels,
        UnsupportedBody,
        UnsupportedPicture,
        NoPictures,
        BrokenPicture,
        InvalidOption,
        NotFound,
        NotReady,
        QueueFull,
        OutOfMemory,
        NonFiniteOutput,
    )
}


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
        return InvalidOption(f"{name}: {first['msg']}; {str(first['input'])[:40]!r} was given.", option=name).response()

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
