"""Errors of the service, and the framework's own, as RFC 9457 problem documents."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from service.errors import InvalidOption, KeyRequired, RangeNotSatisfiable, ServiceError, restored

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """How a kind of error is answered."""

    status: int
    title: str


KINDS = {
    "internal-error": Kind(500, "Internal error"),
    "malformed-body": Kind(400, "Malformed body"),
    "key-required": Kind(401, "API key required"),
    "not-yours": Kind(403, "Not yours"),
    "cross-site": Kind(403, "Page of another site"),
    "not-found": Kind(404, "Not found"),
    "result-damaged": Kind(410, "Result damaged"),
    "not-acceptable": Kind(406, "Not acceptable"),
    "upload-timeout": Kind(408, "Upload took too long"),
    "not-finished": Kind(409, "Not finished"),
    "cancelled": Kind(409, "Cancelled"),
    "too-many-pictures": Kind(413, "Too many pictures"),
    "too-many-bytes": Kind(413, "Too many bytes"),
    "too-many-pixels": Kind(413, "Too many pixels"),
    "too-much-memory": Kind(413, "Too much memory"),
    "too-much-time": Kind(413, "Too much time"),
    "unsupported-body": Kind(415, "Unsupported body"),
    "unsupported-picture": Kind(415, "Not a supported picture"),
    "range-not-satisfiable": Kind(416, "Range not satisfiable"),
    "unknown-host": Kind(421, "Unknown host"),
    "no-pictures": Kind(422, "No pictures"),
    "broken-picture": Kind(422, "Broken picture"),
    "broken-archive": Kind(422, "Broken archive"),
    "broken-video": Kind(422, "Broken video"),
    "invalid-option": Kind(422, "Invalid option"),
    "urls-off": Kind(422, "URLs not fetched"),
    "url-refused": Kind(422, "URL refused"),
    "no-tracks": Kind(422, "No track head"),
    "not-in-result": Kind(422, "Not in this result"),
    "fetch-failed": Kind(424, "URL gave no file"),
    "idempotency-key-reused": Kind(422, "Idempotency key reused"),
    "queue-full": Kind(429, "Queue full"),
    "quota-exceeded": Kind(429, "Quota exceeded"),
    "non-finite-output": Kind(500, "Non-finite model output"),
    "interrupted": Kind(500, "Interrupted"),
    "device-lost": Kind(503, "Device lost"),
    "model-unavailable": Kind(500, "Model unavailable"),
    "not-ready": Kind(503, "Not ready"),
    "draining": Kind(503, "Shutting down"),
    "worker-stuck": Kind(503, "Worker stuck"),
    "store-unavailable": Kind(503, "Store unavailable"),
    "too-many-connections": Kind(503, "Too many connections"),
    "exports-busy": Kind(503, "Exports busy"),
    "out-of-memory": Kind(503, "Out of memory"),
    "deadline-exceeded": Kind(504, "Deadline exceeded"),
    "storage-full": Kind(507, "Storage full"),
}
"""Status and title of every error's code."""


def problem(error: ServiceError) -> dict[str, Any]:
    """The problem document of an error."""
    kind = KINDS[error.code]
    return {
        "type": f"/problems/{error.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": error.message,
        **error.fields,
    }


def recorded_problem(record: dict[str, Any] | None) -> dict[str, Any] | None:
    """The problem document of an error that a job's record keeps."""
    return None if record is None else problem(restored(record))


def refuse(error: ServiceError, headers: dict[str, str] | None = None) -> Response:
    """The answer for an error, with `headers` beside those that belong to its kind."""
    return Response(
        json.dumps(problem(error)),
        status_code=KINDS[error.code].status,
        headers={**(headers or {}), **_headers(error)},
        media_type=MEDIA_TYPE,
    )


def retry_after(seconds: float) -> dict[str, str]:
    """The ``Retry-After`` header, whole seconds, at least 1."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def _headers(error: ServiceError) -> dict[str, str]:
    headers = {} if error.retry_after is None else retry_after(error.retry_after)
    if isinstance(error, KeyRequired):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.fields['bytes']}"
    return headers


def answer_errors(app: FastAPI) -> None:
    """Make `app` answer every error that is expected, its own and the framework's, as a problem
    document. What nobody expects is answered by `Exchange`."""

    @app.exception_handler(ServiceError)
    async def known(request: Request, error: ServiceError) -> Response:
        return refuse(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name = str(first["loc"][-1])
        message = first["msg"].removeprefix("Value error, ")
        given = str(first["input"])[:40]
        return refuse(InvalidOption(f"{name}: {message}; {given!r} was given.", option=name))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if error.status_code == 400:  # the framework says so of what is not even text
            return refuse(InvalidOption("The body is not JSON in UTF-8.", option="body"))
        document = {"type": "about:blank", "title": error.detail, "status": error.status_code}
        return JSONResponse(
            document, error.status_code, headers=error.headers, media_type=MEDIA_TYPE
        )

    @app.exception_handler(ClientDisconnect)
    async def disconnected(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it
