"""Telling an address of the client's choice that a reconstruction has ended.

What is still to be told is in the database of jobs, so a kill loses none of it; an address may be
told more than once. Each call is signed as Standard Webhooks (standardwebhooks.com) describes it:
HMAC-SHA256 over ``id.timestamp.body``.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from service.clock import clock
from service.errors import InvalidOption
from service.inputs.remote.fetcher import Fetcher
from service.inputs.remote.hosts import URLRefusedError, read_url
from service.jobs.database import Database
from service.jobs.schema import jobs, webhooks
from service.jobs.sending import NOT_REACHED, WAITS, keep_sending, outcome
from service.settings import SettingsError
from service.states import ENDED
from service.telemetry.metrics import Metrics

_AT_ONCE = 16
_LEAST_SECRET = 16  # characters

_log = logging.getLogger("service")


@dataclass(frozen=True)
class Call:
    """One attempt at telling `url` that a job has ended, after so many others."""

    job: str
    url: str
    attempts: int
    state: str
    problem: str | None

    def body(self) -> bytes:
        """What is sent, as JSON."""
        code = None if self.problem is None else json.loads(self.problem)["code"]
        data = {"id": self.job, "state": self.state, "problem": code}
        data["link"] = f"/reconstructions/{self.job}"
        return json.dumps({"type": f"reconstruction.{self.state}", "data": data}).encode()


def signed(secret: bytes, id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that prove who sent `body`, and when: `timestamp` is in seconds since the
    epoch."""
    mac = hmac.new(secret, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "Webhook-Id": id,
        "Webhook-Timestamp": str(timestamp),
        "Webhook-Signature": f"v1,{base64.b64encode(mac).decode()}",
    }


def read_secret(path: Path | None) -> bytes | None:
    """The secret that the file at `path` holds. Raises SettingsError if it holds none."""
    if path is None:
        return None
    try:
        secret = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--webhook-secret {path} can't be read: {error}.") from None
    if len(secret) < _LEAST_SECRET:
        raise SettingsError(
            f"--webhook-secret {path} holds {len(secret)} characters; give at least "
            f"{_LEAST_SECRET}, such as those of `openssl rand -base64 32`."
        )
    return secret.encode()


class Webhooks:
    """Calls what is due, again and again with longer and longer waits, until it is answered with a
    status from 200 to 299 or given up. Without a `secret` nobody is called."""

    def __init__(
        self, database: Database, fetcher: Fetcher, secret: bytes | None, metrics: Metrics
    ) -> None:
        self._database = database
        self._fetcher = fetcher
        self._secret = secret
        self._metrics = metrics

    @property
    def on(self) -> bool:
        """Whether anybody is called."""
        return self._secret is not None

    def check(self, url: str | None) -> None:
        """Raises InvalidOption if this address is never called from here."""
        if url is None:
            return
        if not self.on:
            raise InvalidOption(
                "callback_url: this service calls no addresses. Follow the reconstruction's events "
                "instead, or have it run with --webhook-secret.",
                option="callback_url",
            )
        try:
            self._fetcher.hosts.origin(read_url(url))
        except URLRefusedError as error:
            raise InvalidOption(f"callback_url {error}.", option="callback_url") from None

    def order(self, connection: Connection, job: str, url: str | None) -> None:
        """Have `url` told of the end of a job, also if it has ended already, once the transaction
        is through."""
        if url is None:
            return
        same = (webhooks.c.job == job, webhooks.c.url == url)
        connection.execute(delete(webhooks).where(*same))
        connection.execute(insert(webhooks).values(job=job, url=url, attempts=0, due=0.0))

    async def run(self) -> None:
        """Call what is due, until cancelled."""
        await keep_sending("callbacks", _AT_ONCE, self.take, self._make)

    def take(self, most: int) -> list[Call]:
        """What is due now, the longest first. It is due again after the call's time and a wait: so
        it is neither lost with this process nor made by two replicas at once."""
        row = select(webhooks, jobs.c.state, jobs.c.problem).join(jobs, jobs.c.id == webhooks.c.job)
        with self._database.transaction() as connection:
            now = self._database.now(connection)
            due = row.where(jobs.c.state.in_(ENDED), webhooks.c.due <= now)
            due = due.order_by(webhooks.c.due).limit(most)
            due = due.with_for_update(skip_locked=True, of=webhooks)
            calls = [
                Call(each.job, each.url, each.attempts, each.state, each.problem)
                for each in connection.execute(due)
            ]
            for call in calls:
                wait = WAITS[min(call.attempts, len(WAITS) - 1)]
                due_again = now + self._fetcher.access.fetch_timeout + wait
                values = {"attempts": call.attempts + 1, "due": due_again}
                connection.execute(update(webhooks).where(*_this(call)).values(values))
        return calls

    async def _make(self, call: Call) -> None:
        assert self._secret is not None
        body = call.body()
        try:
            headers = signed(self._secret, call.job, int(clock.now()), body)
            seconds = self._fetcher.access.fetch_timeout
            status = await self._fetcher.send("POST", call.url, headers, body, seconds)
            why = "" if 200 <= status < 300 else f"answered with status {status}"
        except NOT_REACHED as error:
            why = f"was not reached: {error!r}"
        result = outcome(why, last=call.attempts >= len(WAITS))
        self._metrics.webhooks.labels(result).inc()
        if why:
            given_up = "; given up" if result == "given-up" else ""
            _log.warning("the callback of job %s %s%s", call.job, why, given_up)
        await asyncio.to_thread(self._record, call, again=result == "failed")

    def _record(self, call: Call, again: bool) -> None:
        with self._database.transaction() as connection:
            if again:
                due = self._database.now(connection) + WAITS[call.attempts]
                connection.execute(update(webhooks).where(*_this(call)).values(due=due))
            else:
                connection.execute(delete(webhooks).where(*_this(call)))


def _this(call: Call) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return webhooks.c.job == call.job, webhooks.c.url == call.url
