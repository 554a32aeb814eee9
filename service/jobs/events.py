"""What happens to jobs as it happens: a short history per job, waiting readers, server-sent events.

Published from the worker's thread, read on the event loop. An event's number is the milliseconds of its time, made
strictly increasing. The latest one is on record with the job, so numbers go on rising after a restart and on another
replica, and a reader that comes back misses nothing that is left.
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
        self.readers = 0
        self.closing = False

    @property
    def last(self) -> int:
        return self.history[-1].number if self.history else 0


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

    def publish(self, id: str, kind: str, data: dict[str, Any], number: int | None = None) -> None:
        """Add an event and wake its readers.

        One that is on record has its `number` already, and is dropped if it is no news here. So is progress that
        follows progress too soon, and everything after the end.
        """
        with self._lock:
            channel = self._channel(id)
            now = int(1000 * time.time())
            last = channel.history[-1] if channel.history else None
            if last is not None and (last.kind == "end" or (number is not None and number <= last.number)):
                return
            if kind == "progress" and number is None and last is not None and _too_soon(last, data, now):
                return
            channel.history.append(Event(number or max(now, channel.last + 1), kind, data))
        self._wake(channel)

    def last_number(self, id: str) -> int:
        """Number of the latest event of a job that is known here; 0 for none."""
        with self._lock:
            channel = self._channels.get(id)
            return 0 if channel is None else channel.last

    def awaited(self) -> set[str]:
        """The jobs that somebody follows here."""
        with self._lock:
            return {id for id, channel in self._channels.items() if channel.readers}

    def dismiss(self, id: str) -> None:
        """Send a job's readers home: it is no longer there."""
        with self._lock:
            channel = self._channels.pop(id, None)
        if channel is not None:
            channel.closing = True
            self._wake(channel)

    def close(self) -> None:
        """Send every reader home: the service is shutting down."""
        self.closing = True
        with self._lock:
            channels = list(self._channels.values())
        for channel in channels:
            self._wake(channel)

    async def wait_for_end(self, id: str, timeout: float | None) -> Event | None:
        """The job's end; None if the job goes, the service closes or `timeout` seconds are over before."""
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
        with self._lock:
            channel = self._channel(id)
            channel.readers += 1
        try:
            async for event in self._follow(channel, after, heartbeat):
                yield event
        finally:
            with self._lock:
                channel.readers -= 1

    async def _follow(self, channel: _Channel, after: int, heartbeat: float | None) -> AsyncIterator[Event | None]:
        while True:
            with self._lock:
                channel.changed.clear()
                events = [event for event in channel.history if event.number > after]
            for event in events:
                yield event
                after = event.number
                if event.kind == "end":
                    return
            if self.closing or channel.closing:
                return
            if channel.last > after:
                continue  # published while this reader was sending; another reader may have cleared the flag
            try:
                await asyncio.wait_for(channel.changed.wait(), heartbeat)
            except asyncio.TimeoutError:
                yield None

    def _channel(self, id: str) -> _Channel:
        channel = self._channels.get(id)
        if channel is None:
            channel = self._channels[id] = _Channel()
            quiet = [old for old, other in self._channels.items() if not other.readers and other is not channel]
            for old in quiet[: max(len(self._channels) - _JOBS, 0)]:
                del self._channels[old]
        return channel

    def _wake(self, channel: _Channel) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(channel.changed.set)


def _too_soon(last: Event, data: dict[str, Any], now: int) -> bool:
    same = last.kind == "progress" and last.data.get("stage") == data.get("stage")
    return same and now - last.number < 1000 * _LEAST_SECONDS
