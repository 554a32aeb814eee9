"""Where jobs are recorded: an SQLite file of this process's own, or a PostgreSQL database that
replicas share.

A transaction is synced to disk before it returns. On SQLite they run one after the other; on
PostgreSQL rows are locked where it matters, and a replica that stops in mid-transaction is cut off
by the server.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    cast,
    create_engine,
    event,
    extract,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import REGCLASS
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import StaticPool

from service.clock import clock
from service.errors import ServiceError, StorageFull, StoreUnavailable
from service.jobs.schema import prepare

_ADMISSION = 0x7265636F6E  # names the lock of `alone`; any number that all replicas share
_CONNECTION = {
    "connect_timeout": 3,
    "application_name": "quantvggt",
    "client_encoding": "utf8",  # also where the database declares none
    # so that a pooler between here and the server may hand out any connection
    "prepare_threshold": None,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_SESSION = "SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '5s'"
_OURS = (DataError, IntegrityError, ProgrammingError)  # a statement was wrong, not the database
_DISK_FULL = "53100"
# after a failure, before the database is asked again: those who ask must not pile up
_PAUSE_SECONDS = 1.0

_log = logging.getLogger("service")


class DatabaseError(RuntimeError):
    """The database of jobs is damaged, or what a shared one needs is not installed."""


class Database:
    """The SQLite file, or the PostgreSQL database, at `location`, with its tables.

    Raises SchemaError, DatabaseError, and StoreUnavailable if a shared one can't be reached.
    """

    def __init__(self, location: Path | URL) -> None:
        self.shared = isinstance(location, URL)
        self._away_until = 0.0
        self._last_problem = ""
        self._turn: AbstractContextManager[Any] = nullcontext() if self.shared else threading.Lock()
        self._engine = _postgresql(location) if isinstance(location, URL) else _sqlite(location)
        try:
            with self.transaction() as connection:
                self.alone(connection)
                prepare(connection)
        except StoreUnavailable as error:
            if self.shared:
                raise
            raise DatabaseError(
                f"the database of jobs, {location}, can't be read: {self._last_problem}. Put back "
                "a copy of it, or give the service another data folder"
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Everything that is done with the connection, or nothing. Raises StoreUnavailable and
        StorageFull."""
        try:
            with self._turn:
                if time.monotonic() < self._away_until:  # perhaps since this thread began to wait
                    raise self._away()
                with self._engine.begin() as connection:
                    yield connection
        except (DBAPIError, PoolTimeout) as error:
            problem = self._problem(error)
            if problem is None:
                raise
            raise problem from None

    def alone(self, connection: Connection) -> None:
        """Let no other replica pass this line until the transaction has ended."""
        if self.shared:
            connection.execute(select(func.pg_advisory_xact_lock(_ADMISSION)))

    def ever_counted(self, connection: Connection, table: str) -> bool:
        """Whether the table's automatic numbers have ever been used, also by rows that are gone."""
        if self.shared:
            sequence = func.pg_get_serial_sequence(table, "place")
            last = func.pg_sequence_last_value(cast(sequence, REGCLASS))
            return connection.scalar(select(last)) is not None
        last_number = text("SELECT seq FROM sqlite_sequence WHERE name = :table")
        return bool(connection.scalar(last_number, {"table": table}))

    def count(self, connection: Connection, table: str) -> None:
        """Use one of the table's automatic numbers for nothing."""
        if self.shared:
            sequence = func.pg_get_serial_sequence(table, "place")
            connection.scalar(select(func.nextval(cast(sequence, REGCLASS))))
        else:
            insert = text("INSERT INTO sqlite_sequence (name, seq) VALUES (:table, 1)")
            connection.execute(insert, {"table": table})

    def now(self, connection: Connection) -> float:
        """Seconds since the epoch by the database's clock, which is the same for all replicas."""
        if not self.shared:
            return clock.now()
        return float(connection.scalar(select(extract("epoch", func.clock_timestamp()))) or 0.0)

    def close(self) -> None:
        self._engine.dispose()

    def _problem(self, error: DBAPIError | PoolTimeout) -> ServiceError | None:
        reason = getattr(error, "orig", None) or error
        if getattr(reason, "sqlstate", None) == _DISK_FULL or (
            not self.shared and "full" in str(reason)
        ):
            return StorageFull("The database of jobs has no room left on its disk.")
        if isinstance(error, _OURS):
            return None
        self._last_problem = str(reason).strip().partition("\n")[0]
        _log.warning(
            "the %sdatabase can't be used now: %s",
            "shared " if self.shared else "",
            self._last_problem,
        )
        self._away_until = time.monotonic() + _PAUSE_SECONDS
        return self._away()

    def _away(self) -> StoreUnavailable:
        if self.shared:
            return StoreUnavailable("The database that the replicas share can't be reached.")
        return StoreUnavailable("The database of jobs can't be used now.")


def _sqlite(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=StaticPool,  # one connection; `_turn` hands it round
        connect_args={"check_same_thread": False},
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        # transactions begin below, not where the driver thinks that they should
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _postgresql(url: URL) -> Engine:
    if importlib.util.find_spec("psycopg") is None:
        raise DatabaseError("a shared database needs psycopg; install the extra `replicas`")
    engine = create_engine(
        url,
        pool_pre_ping=True,
        pool_size=8,
        max_overflow=8,
        pool_timeout=5,
        connect_args=_CONNECTION,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        connection.execute(_SESSION)
        connection.commit()

    return engine
