"""uvicorn with two things that it lacks: a time limit on request heads, and a drain before it stops
listening."""

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
from uvicorn.protocols.http.h11_impl import H11Protocol

_POLL_SECONDS = 0.1


def limited_protocol(header_timeout: float) -> type[H11Protocol]:
    """The HTTP/1.1 protocol that drops connections whose next request head takes longer than
    `header_timeout`."""

    class LimitedProtocol(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._deadline = self.loop.call_later(header_timeout, self.transport.close)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            waiting = self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]
            if waiting and self._deadline is None:
                self._deadline = self.loop.call_later(header_timeout, self.transport.close)
            elif not waiting:
                self._forget()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def _forget(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return LimitedProtocol


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
