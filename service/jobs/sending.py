"""Talking to other servers, about several things at once, each again until it is done or given
up."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import Literal, TypeVar

import httpcore

from service.errors import Unavailable
from service.inputs.remote.hosts import URLRefusedError

WAITS = (15.0, 60.0, 300.0, 1800.0, 3 * 3600.0, 12 * 3600.0)
"""Seconds before the next attempt, the longer the more have failed; after the last it is given
up."""

NOT_REACHED = (
    URLRefusedError, TimeoutError, ssl.SSLError, httpcore.TimeoutException,
    httpcore.NetworkError, httpcore.ProtocolError,
)  # fmt: skip
"""What `Fetcher.send` raises where a server can't be reached or does not speak HTTP."""

_LOOK_SECONDS = 0.5

_T = TypeVar("_T")
_log = logging.getLogger("service")


def outcome(why: str, *, last: bool) -> Literal["delivered", "failed", "given-up"]:
    """What an attempt came to. `why` it was not taken, empty if it was; `last`: no more follow."""
    return "delivered" if not why else "given-up" if last else "failed"


async def keep_sending(
    what: str,
    at_once: int,
    take: Callable[[int], Sequence[_T]],
    send: Callable[[_T], Coroutine[None, None, None]],
) -> None:
    """`send` all that `take` gives, so many of them `at_once`, until cancelled.

    `take` runs in a thread and is told how many there may be. What it gives has to be due again
    later, for `send` may fail. `what` they are is for the log.
    """
    sending: set[asyncio.Task[None]] = set()
    try:
        while True:
            if room := at_once - len(sending):
                try:
                    for each in await asyncio.to_thread(take, room):
                        sending.add(asyncio.create_task(send(each)))
                except Unavailable:
                    pass  # it has been logged
                except Exception:
                    _log.exception("%s could not be sent; trying again", what)
            await _ended(sending, what)
    finally:
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)


async def _ended(sending: set[asyncio.Task[None]], what: str) -> None:
    """Wait a while, or until one of `sending` has ended, and leave out those that have."""
    if not sending:
        await asyncio.sleep(_LOOK_SECONDS)
        return
    ended, _ = await asyncio.wait(
        sending, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
    )
    sending -= ended
    for task in ended:
        if (error := task.exception()) is not None and not isinstance(error, Unavailable):
            _log.error("%s could not be sent; trying again", what, exc_info=error)
