"""What happens to jobs as it happens: a short history per job, waiting readers, server-sent events.

Published from the worker's thread, read on the event loop. An event's number is the milliseconds of its time, made
strictly increasing; so numbers go on rising after a restart, and a reader that comes back misses nothing that is left.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

_HISTORY = 1024
_JOBS = 256
_LEAST_SECONDS = 0.1  # between two events that differ only in progress


@dataclass(frozen=True)
class Event:
    """`kind` is "state", "progress" or "end"; `data` is plain data for JSON."""

    number: int
    kind: str
    data: dict[str, Any]

    def encode(self) -> bytes:
        """As a server-sent event."""
        return f"id: {self.number}\nevent: {self.kind}\ndata: {json.dumps(self.data)}\n\n".encode()


class _Channel:
    def __init__(self) -> None:
        self.history: deque[Event] = deque(maxlen=_HISTORY)
        self.changed = asyncio.Event()


class Events:
    """All jobs' histories, the latest `_JOBS` of them. `publish` may be called from any thread."""

    def __init__(self) -> None:
        self._channels: OrderedDict[str, _Channel] = OrderedDict()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closing = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Where readers wait."""
        self._loop = loop

    def publish(self, id: str, kind: str, data: dict[str, Any]) -> None:
        """Add an event and wake its readers. Progress that follows progress too soon is dropped."""
        with self._lock:
            channel = self._channel(id)
            now = int(1000 * time.time())
            last = channel.history[-1] if channel.history else None
            if kind == "progress" and last is not None and _too_soon(last, data, now):
                return
            number = max(now, last.number + 1 if last else 0)
            channel.history.append(Event(number, kind, data))
        self._wake(channel)

    def end_number(self, id: str, finished: float) -> int:
        """Number of the end of a job that ended at the time `finished`.

        That of its history; where the end has left it, or not come yet, one above everything that is there.
        """
        with self._lock:
            channel = self._channels.get(id)
            last = channel.history[-1] if channel is not None and channel.history else None
        number = int(1000 * finished)
        if last is None:
            return number
        return last.number if last.kind == "end" else max(number, last.number + 1)

    def close(self) -> None:
        """Send every reader home: the service is shutting down."""
        self.closing = True
        with self._lock:
            channels = list(self._channels.values())
        for channel in channels:
            self._wake(channel)

    async def wait_for_end(self, id: str, timeout: float | None) -> Event | None:
        """The job's end; None if the service closes or `timeout` seconds are over before."""
        try:
            return await asyncio.wait_for(self._end(id), timeout)
        except asyncio.TimeoutError:
            return None

    async def _end(self, id: str) -> Event | None:
        async for event in self.follow(id, 0, None):
            if event is not None and event.kind == "end":
                return event
        return None

    async def follow(self, id: str, after: int, heartbeat: float | None) -> AsyncIterator[Event | None]:
        """Events of a job numbered above `after`, from its history and then live, up to its end.

        None is yielded whenever `heartbeat` seconds pass without one.
        """
        while True:
            with self._lock:
                channel = self._channel(id)
                channel.changed.clear()
                events = [event for event in channel.history if event.number > after]
            for event in events:
                yield event
                after = event.number
                if event.kind == "end":
                    return
            if self.closing:
                return
            if channel.history and channel.history[-1].number > after:
                continue  # published while this reader was sending; another reader may have cleared the flag
            try:
                await asyncio.wait_for(channel.changed.wait(), heartbeat)
            except asyncio.TimeoutError:
                yield None

    def _channel(self, id: str) -> _Channel:
        channel = self._channels.get(id)
        if channel is None:
            channel = self._channels[id] = _Channel()
            while len(self._channels) > _JOBS:
                self._channels.popitem(last=False)
        return channel

    def _wake(self, channel: _Channel) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(channel.changed.set)


def _too_soon(last: Event, data: dict[str, Any], now: int) -> bool:
    same = last.kind == "progress" and last.data.get("stage") == data.get("stage")
    return same and now - last.number < 1000 * _LEAST_SECONDS
