"""What happens to jobs as it happens: a short history per job, and those who follow it.

Published from the worker's thread, read on the event loop. An event's number is the milliseconds of
its time, made strictly increasing. The latest one is on record with the job, so numbers go on
rising after a restart and on another replica, and a reader that comes back misses nothing that is
left.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from service.clock import clock
from service.jobs.job import Job

_HISTORY = 1024
_JOBS = 256
_LEAST_SECONDS = 0.1  # between two events that differ only in progress


@dataclass(frozen=True)
class Event:
    """`kind` is "state", "progress", "chunk" or "end"; `data` is plain data for JSON.

    An end has the job's record as it then is.
    """

    number: int
    kind: str
    data: dict[str, Any]
    job: Job | None = None


def end_of(job: Job, timings: Mapping[str, float] = MappingProxyType({})) -> Event:
    """The event that the record of an ended job stands for."""
    data = {"state": job.state, "progress": 1.0, "problem": job.problem, "timings": dict(timings)}
    return Event(job.event, "end", data, job)


class _Channel:
    def __init__(self) -> None:
        self.history: deque[Event] = deque(maxlen=_HISTORY)
        self.changed = asyncio.Event()  # for those who follow
        self.over = asyncio.Event()  # for those who only wait for the end
        self.following = 0
        self.waiting = 0
        self.closing = False

    @property
    def last(self) -> int:
        return self.history[-1].number if self.history else 0

    @property
    def end(self) -> Event | None:
        return self.history[-1] if self.history and self.history[-1].kind == "end" else None

    @property
    def watched(self) -> bool:
        return self.following + self.waiting > 0


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

        One that is on record has its `number` already, and is dropped if it is no news here. So is
        progress that follows progress too soon, and everything after the end.
        """
        self._publish(id, Event(number or 0, kind, data))

    def publish_end(self, job: Job, timings: Mapping[str, float] = MappingProxyType({})) -> None:
        """Add the end of a job, as it is on record."""
        self._publish(job.id, end_of(job, timings))

    def _publish(self, id: str, event: Event) -> None:
        with self._lock:
            channel = self._channel(id)
            now = int(1000 * clock.now())
            last = channel.history[-1] if channel.history else None
            if channel.end is not None or 0 < event.number <= channel.last:
                return
            if event.kind == "progress" and not event.number and _too_soon(last, event.data, now):
                return
            if not event.number:
                event = replace(event, number=max(now, channel.last + 1))
            channel.history.append(event)
        if event.kind == "end":
            self._wake(channel.changed, channel.over)
        elif channel.following:
            self._wake(channel.changed)

    def last_number(self, id: str) -> int:
        """Number of the latest event of a job that is known here; 0 for none."""
        with self._lock:
            channel = self._channels.get(id)
            return 0 if channel is None else channel.last

    def chunks(self, id: str) -> tuple[int, list[Event]]:
        """Number of the latest event of a job that is known here, and the events of its chunks up
        to that."""
        with self._lock:
            channel = self._channels.get(id)
            history = [] if channel is None else [*channel.history]
        last = history[-1].number if history else 0
        return last, [event for event in history if event.kind == "chunk"]

    def awaited(self) -> set[str]:
        """The jobs that somebody follows here."""
        with self._lock:
            return {id for id, channel in self._channels.items() if channel.watched}

    def dismiss(self, id: str) -> None:
        """Send a job's readers home: it is no longer there."""
        with self._lock:
            channel = self._channels.pop(id, None)
        if channel is not None:
            channel.closing = True
            self._wake(channel.changed, channel.over)

    def close(self) -> None:
        """Send every reader home: the service is shutting down."""
        self.closing = True
        with self._lock:
            channels = list(self._channels.values())
        for channel in channels:
            self._wake(channel.changed, channel.over)

    async def wait_for_end(self, id: str, timeout: float | None) -> Event | None:
        """The job's end; None if the job goes, the service closes or `timeout` seconds are over
        before."""
        with self._lock:
            channel = self._channel(id)
            if channel.end is not None or self.closing:
                return channel.end
            channel.waiting += 1
        with suppress(asyncio.TimeoutError):
            try:
                await asyncio.wait_for(channel.over.wait(), timeout)
            finally:
                with self._lock:
                    channel.waiting -= 1
        return channel.end

    async def follow(
        self, id: str, after: int, heartbeat: float | None
    ) -> AsyncIterator[Event | None]:
        """Events of a job numbered above `after`, from its history and then live, up to its end.

        None is yielded whenever `heartbeat` seconds pass without one.
        """
        with self._lock:
            channel = self._channel(id)
            channel.following += 1
        try:
            async for event in self._follow(channel, after, heartbeat):
                yield event
        finally:
            with self._lock:
                channel.following -= 1

    async def _follow(
        self, channel: _Channel, after: int, heartbeat: float | None
    ) -> AsyncIterator[Event | None]:
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
                # published while this reader was sending; another reader may have cleared the flag
                continue
            try:
                await asyncio.wait_for(channel.changed.wait(), heartbeat)
            except asyncio.TimeoutError:
                yield None

    def _channel(self, id: str) -> _Channel:
        channel = self._channels.get(id)
        if channel is None:
            channel = self._channels[id] = _Channel()
            quiet = [
                old
                for old, other in self._channels.items()
                if not other.watched and other is not channel
            ]
            for old in quiet[: max(len(self._channels) - _JOBS, 0)]:
                del self._channels[old]
        return channel

    def _wake(self, *flags: asyncio.Event) -> None:
        if self._loop is None:
            return
        with suppress(RuntimeError):  # the loop has closed, at any moment: nobody reads any more
            for flag in flags:
                self._loop.call_soon_threadsafe(flag.set)


def _too_soon(last: Event | None, data: dict[str, Any], now: int) -> bool:
    if last is None or last.kind != "progress" or last.data.get("stage") != data.get("stage"):
        return False
    return now - last.number < 1000 * _LEAST_SECONDS
