"""Sending files of results to where a request wants them: presigned URLs, or a prefix of an object
store.

What is still to be sent is in the database of jobs, so a kill loses none of it; a file may be sent
more than once. It is made as for a download, and read piece by piece while it is sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

from sqlalchemy import Connection, and_, delete, exists, func, insert, or_, select, update

from service.errors import (
    InvalidOption,
    QueueFull,
    Refusal,
    ServiceError,
    StoreUnavailable,
    Unavailable,
)
from service.exports.catalogue import Catalogue
from service.exports.records import BY_NAME
from service.inputs.options import Options
from service.inputs.remote.fetcher import Fetcher
from service.inputs.remote.hosts import URLRefusedError, read_url
from service.jobs.job import Job
from service.jobs.schema import deliveries, jobs
from service.jobs.sending import NOT_REACHED, WAITS, keep_sending, outcome
from service.jobs.store import JobStore
from service.result.delivery import DeliveryDocument
from service.states import ENDED, JobState
from service.storage.outputs import Outputs, is_output
from service.telemetry.metrics import Metrics

_AT_ONCE = 8
_MOST_PENDING = 1000  # of one client
_HELD_SECONDS = 180.0  # before another replica may send it, too
_SLOWEST = 2**17  # bytes a second that a server has to take, or else it has failed
_CHUNK = 2**18

_log = logging.getLogger("service")


@dataclass(frozen=True)
class Delivery:
    """One attempt at sending a file of a job's result to `url`, after so many others."""

    number: int
    job: Job
    file: str
    url: str
    attempts: int


class Deliveries:
    """Sends what is due, again and again with longer and longer waits, until it is answered with a
    status from 200 to 299 or given up. `fetcher` sends to URLs that pass its checks, without one
    nothing is; `outputs` writes to object stores."""

    def __init__(
        self,
        store: JobStore,
        catalogue: Catalogue,
        fetcher: Fetcher | None,
        outputs: Outputs,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._database = store.database
        self._catalogue = catalogue
        self._fetcher = fetcher
        self._outputs = outputs
        self._metrics = metrics
        self._making = ThreadPoolExecutor(1, thread_name_prefix="deliveries")
        if self.on and not self._database.shared:  # what an earlier process was sending is due
            with self._database.transaction() as connection:
                connection.execute(update(deliveries).values(due=0.0))

    @property
    def on(self) -> bool:
        """Whether anything is sent."""
        return self._fetcher is not None or self._outputs.on

    def close(self) -> None:
        """Wait for the file that is being made."""
        self._making.shutdown()

    # What is asked for

    def check(self, options: Options) -> None:
        """Raises InvalidOption if nothing is ever sent from here to where the options say, or one
        of the files is never made."""
        if options.output is not None:
            self._outputs.check(options.output)
        urls = options.output_urls
        if urls is not None and self._fetcher is None:
            raise InvalidOption(
                "output_urls: this service sends files to no URLs. Download them instead, or have "
                "it run with --send-outputs.",
                option="output_urls",
            )
        for file, url in (urls or {}).items():
            if not BY_NAME[file].installed:
                raise InvalidOption(
                    f"output_urls: this service can't make {file}: it lacks the Python package "
                    f"{BY_NAME[file].package}.",
                    option="output_urls",
                )
            try:
                assert self._fetcher is not None
                self._fetcher.hosts.origin(read_url(url))
            except URLRefusedError as error:
                raise InvalidOption(
                    f"output_urls: the URL of {file} {error}.", option="output_urls"
                ) from None

    def check_room(self, client: str, targets: Sequence[tuple[str, str]]) -> None:
        """Raises QueueFull if so many of the client's files are still to be sent that these would
        be too many."""
        if not targets:
            return
        pending = (
            select(func.count())
            .select_from(deliveries.join(jobs, jobs.c.id == deliveries.c.job))
            .where(deliveries.c.state == "pending", jobs.c.client == client)
        )
        with self._database.transaction() as connection:
            waiting = connection.scalar(pending) or 0
        if waiting + len(targets) > _MOST_PENDING:
            raise QueueFull(
                f"{waiting} files of yours are still to be sent; at most {_MOST_PENDING} may be.",
                retry_after=600.0,
            )

    def order(self, connection: Connection, job: str, targets: Sequence[tuple[str, str]]) -> None:
        """Have files of a job's result sent, each to its URL, also if it has ended already, once
        the transaction is through. What was sent of the same files before is forgotten; what is
        still to be sent elsewhere stays."""
        for file, url in targets:
            connection.execute(
                delete(deliveries).where(
                    deliveries.c.job == job,
                    deliveries.c.file == file,
                    or_(deliveries.c.state != "pending", deliveries.c.url == url),
                )
            )
            connection.execute(
                insert(deliveries).values(
                    job=job,
                    file=file,
                    host=read_url(url).host,
                    url=url,
                    state="pending",
                    attempts=0,
                    due=0.0,
                )
            )

    def of(self, job: str) -> list[DeliveryDocument]:
        """How far the files of a job are; none where nothing is sent."""
        if not self.on:
            return []
        columns = [deliveries.c[name] for name in DeliveryDocument.model_fields]
        rows = select(*columns).where(deliveries.c.job == job).order_by(deliveries.c.number)
        with self._database.transaction() as connection:
            return [
                DeliveryDocument.model_validate(row) for row in connection.execute(rows).mappings()
            ]

    # Sending

    async def run(self) -> None:
        """Send what is due, until cancelled."""
        await keep_sending("files of results", _AT_ONCE, self.take, self._send)

    def take(self, most: int) -> list[Delivery]:
        """What is due now, the longest first. It is due again after a while, unless it is held: so
        it is neither lost with this process nor sent by two replicas at once."""
        of_job = jobs.c.id == deliveries.c.job
        without_result = (
            exists()
            .where(of_job, jobs.c.state.in_(ENDED), jobs.c.state != JobState.SUCCEEDED)
            .correlate(deliveries)
        )
        vain = delete(deliveries).where(deliveries.c.state == "pending", without_result)
        with self._database.transaction() as connection:
            connection.execute(vain)
            now = self._database.now(connection)
            due = (
                select(deliveries)
                .join(jobs, of_job)
                .where(
                    deliveries.c.state == "pending",
                    deliveries.c.due <= now,
                    jobs.c.state == JobState.SUCCEEDED,
                )
                .order_by(deliveries.c.due, deliveries.c.number)
                .limit(most)
                .with_for_update(skip_locked=True, of=deliveries)
            )
            rows = connection.execute(due).all()
            for row in rows:
                connection.execute(
                    update(deliveries)
                    .where(deliveries.c.number == row.number)
                    .values(attempts=row.attempts + 1, due=now + _HELD_SECONDS)
                )
        found = self._store.several([row.job for row in rows])
        return [
            Delivery(row.number, found[row.job], row.file, row.url, row.attempts)
            for row in rows
            if row.job in found
        ]

    async def _send(self, delivery: Delivery) -> None:
        """One attempt, and what is to be recorded of it."""
        holding = asyncio.create_task(self._hold(delivery))
        why, final = "", False
        try:
            why = await self._put(delivery)
        except Refusal as error:  # there is no such file
            why, final = error.message, True
        except ServiceError as error:
            why = error.message
        except Exception:
            _log.exception("%s of job %s could not be sent", delivery.file, delivery.job.id)
            why = "The file could not be made or read."
        finally:
            holding.cancel()
        result = outcome(why, last=final or delivery.attempts >= len(WAITS))
        self._metrics.deliveries.labels(result).inc()
        await asyncio.to_thread(self._record, delivery, result, why or None)

    async def _put(self, delivery: Delivery) -> str:
        """Send the file; returns why it was not taken, or nothing. Raises a ServiceError."""
        export = BY_NAME[delivery.file]
        files = await asyncio.to_thread(self._catalogue.files, delivery.job.result, insist=True)
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._making, files.file, export)
        if is_output(delivery.url):
            try:
                await self._outputs.put(delivery.url, made.path, export.media_type)
            except StoreUnavailable:
                return "The object store did not take it."
            return ""
        if self._fetcher is None:
            return "This service no longer sends files to URLs."
        headers = {"Content-Type": export.media_type, "Content-Length": str(made.bytes)}
        seconds = self._fetcher.access.fetch_timeout + made.bytes / _SLOWEST
        with made.path.open("rb") as file:
            try:
                status = await self._fetcher.send(
                    "PUT", delivery.url, headers, _pieces(file), seconds
                )
            except NOT_REACHED as error:
                _log.info("%s of job %s was not sent: %r", delivery.file, delivery.job.id, error)
                return "Its server was not reached, or did not take it in time."
        return "" if 200 <= status < 300 else f"Its server answered with status {status}."

    async def _hold(self, delivery: Delivery) -> None:
        """Keep other replicas from sending it, until cancelled."""
        while True:
            await asyncio.sleep(_HELD_SECONDS / 3)
            try:
                await asyncio.to_thread(self._postpone, delivery, _HELD_SECONDS)
            except Unavailable:
                continue  # it has been logged

    def _postpone(self, delivery: Delivery, seconds: float) -> None:
        this = and_(deliveries.c.number == delivery.number, deliveries.c.state == "pending")
        with self._database.transaction() as connection:
            due = self._database.now(connection) + seconds
            connection.execute(update(deliveries).where(this).values(due=due))

    def _record(self, delivery: Delivery, result: str, reason: str | None) -> None:
        this = deliveries.c.number == delivery.number
        with self._database.transaction() as connection:
            if result == "failed":
                due = self._database.now(connection) + WAITS[delivery.attempts]
                values = {"reason": reason, "due": due}
            else:
                state = "delivered" if result == "delivered" else "failed"
                values = {"reason": reason, "state": state, "url": None}
            connection.execute(update(deliveries).where(this).values(values))


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, _CHUNK):
        yield piece
