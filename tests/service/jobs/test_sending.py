"""Several things sent at once, and again where that fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress

import pytest

from service.errors import StoreUnavailable
from service.jobs import sending
from service.jobs.sending import keep_sending, outcome
from tests.service.running import PATIENCE


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_LOOK_SECONDS", 0.001)


def given(*things: list[str] | Exception) -> Callable[[int], Sequence[str]]:
    """A `take` that gives these one after the other, then nothing."""
    rest = list(things)

    def take(most: int) -> Sequence[str]:
        now = rest.pop(0) if rest else []
        if isinstance(now, Exception):
            raise now
        assert len(now) <= most
        return now

    return take


async def until(
    done: Callable[[], bool],
    take: Callable[[int], Sequence[str]],
    send: Callable[[str], Coroutine[None, None, None]],
    at_once: int = 2,
) -> None:
    """`keep_sending`, cancelled as soon as `done` holds."""
    task = asyncio.create_task(keep_sending("letters", at_once, take, send))
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_a_slow_server_does_not_keep_others_waiting() -> None:
    sent, stopped = [], []

    async def send(letter: str) -> None:
        try:
            if letter == "slow":
                await asyncio.Event().wait()
            sent.append(letter)
        finally:
            if letter == "slow":
                stopped.append(letter)

    asyncio.run(until(lambda: len(sent) == 3, given(["slow", "a"], ["b"], ["c"]), send))
    assert sent == ["a", "b", "c"]
    assert stopped == ["slow"]  # with the whole


def test_no_more_are_taken_than_may_be_sent_at_once() -> None:
    asked: list[int] = []
    waiting = given(["a"], ["b"])

    def take(most: int) -> Sequence[str]:
        asked.append(most)
        return waiting(most)

    sent: list[str] = []

    async def send(letter: str) -> None:
        sent.append(letter)
        await asyncio.Event().wait()

    asyncio.run(until(lambda: len(sent) == 2, take, send))
    assert asked == [2, 1]


def test_what_can_not_be_taken_or_sent_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    sent = []

    async def send(letter: str) -> None:
        if letter == "torn":
            raise ValueError("it is torn")
        if letter == "unrecorded":
            raise StoreUnavailable("the database is away")
        sent.append(letter)

    take = given(
        StoreUnavailable("the database is away"),
        RuntimeError("the drawer is stuck"),
        ["torn", "unrecorded"],
        [],
        ["a"],
    )
    asyncio.run(until(lambda: sent == ["a"], take, send))
    logged = [(record.getMessage(), record.exc_info) for record in caplog.records]
    assert [str(info[1]) for _, info in logged if info] == ["the drawer is stuck", "it is torn"]
    assert {text for text, _ in logged} == {"letters could not be sent; trying again"}


def test_an_attempt_that_was_not_the_last_has_failed_else_it_is_given_up() -> None:
    assert outcome("", last=True) == "delivered"
    assert outcome("busy", last=False) == "failed"
    assert outcome("busy", last=True) == "given-up"
