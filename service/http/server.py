"""uvicorn with what it lacks: a time limit on request heads and on what follows an answer, a bound
on connections that leaves room for health, and a drain before it stops listening."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.errors import TooManyConnections
from service.http.protocol.problems import refuse

_POLL_SECONDS = 0.1
_CONNECTIONS = 512
_RESERVE, _RESERVE_SECONDS = 32, 2.0


def limited_protocol(
    header_timeout: float, max_connections: int = _CONNECTIONS
) -> type[H11Protocol]:
    """The HTTP/1.1 protocol that drops connections whose next request head takes longer than
    `header_timeout`, or the rest of a body that was answered before it had arrived.

    Beyond `max_connections` only health is answered, on a few connections more, and soon.
    """

    class LimitedProtocol(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None
        _patience = header_timeout

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            beyond = len(self.connections) - max_connections
            if beyond > _RESERVE:
                self.transport.abort()
                return
            if beyond > 0:
                self._patience = min(header_timeout, _RESERVE_SECONDS)
                self.app = health_only(self.app)
            self._limit()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def _watch(self) -> None:
            state = self.conn.their_state
            head = state is h11.IDLE and self.conn.trailing_data[0]
            answered = self.cycle is not None and self.cycle.response_complete
            if not head and not (state is h11.SEND_BODY and answered):
                self._forget()
            elif self._deadline is None:
                self._limit()

        def _limit(self) -> None:
            self._deadline = self.loop.call_later(self._patience, self.transport.close)

        def _forget(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return LimitedProtocol


def health_only(app: Any) -> ASGIApp:
    """`app` for whoever is one connection too many: it says whether it lives, and nothing else."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        if scope["type"] == "http" and scope["path"] not in ("/livez", "/readyz"):
            refused = TooManyConnections("The service has as many connections as it takes.")
            await refuse(refused)(scope, receive, closing)
        else:
            await app(scope, receive, closing)

    return answer


class DrainingServer(uvicorn.Server):
    """On the first signal it calls `drain` and goes on answering until `is_idle` or `patience`
    seconds are over.

    A second signal ends it at once.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        drain: Callable[[], None],
        is_idle: Callable[[], bool],
        patience: float,
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._is_idle = is_idle
        self._patience = patience
        self._drains = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._drains:
            super().handle_exit(sig, frame)
            return
        self._drains = True
        self._drain()
        threading.Thread(target=self._stop_when_idle, args=(sig,), daemon=True).start()

    def _stop_when_idle(self, sig: int) -> None:
        deadline = time.monotonic() + self._patience
        while not self._is_idle() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        self._captured_signals.append(signal.Signals(sig))
        self.should_exit = True


def end_process(status: int) -> None:
    """End now: a thread that is stuck in native code can't be joined."""
    os._exit(status)
