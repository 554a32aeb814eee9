"""What holds for every exchange: a request id, security headers, HEAD like GET, one log line, and
an answer to what nobody expected."""

from __future__ import annotations

import logging
import re
import secrets
import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ServiceError, disk_full, is_full
from service.http.protocol.problems import refuse
from service.telemetry.logs import request_id

_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
_QUIET = ("/livez", "/readyz", "/metrics")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_UNEXPECTED = "The service met a condition that it did not expect; its log says more."

_log = logging.getLogger("service.access")
_errors = logging.getLogger("service")


class Exchange:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id = _given_id(scope) or secrets.token_hex(8)
        token = request_id.set(id)
        path = printable(scope["path"])
        started = time.perf_counter()
        status = 0

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY.items():
                    headers.setdefault(name, value)
                headers["X-Request-ID"] = id
            await send(message)

        try:
            await self._app(_as_get(scope), receive, with_headers)
        except Exception as error:
            # Starlette's own last resort raises once more after its answer, and the server then
            # drops the connection.
            if status:
                raise
            if is_full(error):
                _errors.warning("no room for %s %s: %s", scope["method"], path, error)
                await refuse(disk_full())(scope, receive, with_headers)
            else:
                _errors.exception("unexpected error in %s %s", scope["method"], path)
                await refuse(ServiceError(_UNEXPECTED))(scope, receive, with_headers)
        finally:
            level = logging.DEBUG if scope["path"] in _QUIET else logging.INFO
            seconds = time.perf_counter() - started
            _log.log(level, "%s %s %d in %.3f s", scope["method"], path, status, seconds)
            request_id.reset(token)


def printable(text: str) -> str:
    """`text` on one line and without control characters, so that it can't pass for a log line of
    its own."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _as_get(scope: Scope) -> Scope:
    """A HEAD request as a GET without a range, for the routes; the server knows that it must not
    send the body."""
    if scope["method"] != "HEAD":
        return scope
    headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
    return {**scope, "method": "GET", "headers": headers}


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _ID.fullmatch(value.decode("latin-1")):
            return str(value.decode("latin-1"))
    return None
