"""One copy of the network in a process of its own, as Ray Serve runs it. Knows nothing of Ray, so
it needs none."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from service.errors import ServiceError
from service.inference.engine import Engine, Observer
from service.inference.network_pass import Pass
from service.ray.transport import Description, Done, Order, Progress, Refused
from service.settings import InferenceSettings
from service.telemetry.logs import configure_logs

_LOST = 70  # EX_SOFTWARE
_REPORT_SECONDS = 0.05  # blocks of a small network are faster than anybody wants to read of them


class _Stopped(Exception):  # noqa: N818 - not an error
    """Nobody waits for the pass any longer."""


class Replica:
    """Loads the network, then runs one pass at a time. Raises what loading raises: ArtifactError,
    SettingsError."""

    def __init__(
        self,
        settings: InferenceSettings,
        stall_timeout: float = 600.0,
        log_level: str = "info",
        log_format: Literal["text", "json"] = "text",
    ) -> None:
        configure_logs(log_level, log_format)
        self._stall_timeout = stall_timeout
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._moved: float | None = None
        self._engine = Engine(settings)
        # Ray Serve starts another replica, and the pass is sent there
        self._engine.on_loss = lambda error: os._exit(_LOST)
        self._engine.check_kernels()
        self._engine.load()

    def describe(self) -> Description:
        engine = self._engine
        calibration = tuple(engine.planner.model.calibration)
        return Description(
            engine.digest, engine.document().model_dump(), engine.planner.budget, calibration
        )

    def check_health(self) -> None:
        """Raises RuntimeError if a pass is stuck, upon which Ray Serve replaces this replica."""
        moved = self._moved
        if moved is not None and time.monotonic() - moved > self._stall_timeout:
            raise RuntimeError(
                f"the network has shown no progress for {self._stall_timeout:g} seconds"
            )

    async def infer(self, order: Order) -> AsyncIterator[Progress | Refused | Done]:
        """Run a pass; tells how far it is and at last how it ended. Closing or cancelling the
        iteration stops it.

        Raises what no part of the service expects.
        """
        loop = asyncio.get_running_loop()
        news: asyncio.Queue[Progress | None] = asyncio.Queue()
        stop = threading.Event()
        reported = 0.0

        def observe(stage: str, share: float) -> None:
            nonlocal reported
            if stop.is_set():
                raise _Stopped
            self._moved = now = time.monotonic()
            if now - reported >= _REPORT_SECONDS:
                reported = now
                loop.call_soon_threadsafe(news.put_nowait, Progress(stage, share))

        work = loop.run_in_executor(self._thread, self._run, order, observe)
        work.add_done_callback(lambda work: news.put_nowait(None))
        try:
            yield Progress("transfer", 0.0)
            while (progress := await news.get()) is not None:
                yield progress
            try:
                yield Done.of(work.result())
            except ServiceError as error:
                yield Refused(error.record())
        finally:
            stop.set()
            await asyncio.wait([work])  # the next pass is not to meet this one on the device
            if not work.cancelled():
                work.exception()

    def _run(self, order: Order, observe: Observer) -> Pass:
        self._moved = time.monotonic()
        try:
            return self._engine.infer(
                order.batch(),
                observe,
                order.queries(),
                order.describe,
                order.attention_keys,
                order.known_cameras(),
            )
        finally:
            self._moved = None
