"""Bytes on their way to the service and from it, counted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx

Progress = Callable[[str, float], None]
"""Called with the stage ("upload", "queue", "reconstruct", "export", "download") and the share of
it that is done."""


class Counted(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A request's body that reports how much of it has been sent."""

    def __init__(self, request: httpx.Request, progress: Progress) -> None:
        self._stream: Any = request.stream
        self._meter = Meter("upload", int(request.headers.get("Content-Length", 0)), progress)

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            yield chunk
            self._meter.add(chunk)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk
            self._meter.add(chunk)


class Meter:
    """Bytes that have passed, as a share of all."""

    def __init__(self, stage: str, total: int, progress: Progress) -> None:
        self._stage, self._total, self._progress = stage, total, progress
        self._passed = 0
        progress(stage, 0.0)

    def add(self, chunk: bytes) -> None:
        self._passed += len(chunk)
        self._progress(self._stage, min(self._passed / max(self._total, 1), 1.0))
