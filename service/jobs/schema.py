"""The tables of the job store, and how older ones are brought up to date.

Version 1 knew one process and one SQLite file. Version 2 adds who works on a job, until when, and
how far it is.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.schema import CreateColumn

from service.states import ENDED

VERSION = 2

metadata = MetaData()


jobs = Table(
    "jobs",
    metadata,
    Column(
        "place",
        BigInteger().with_variant(Integer, "sqlite"),
        key="position",  # in the queue
        primary_key=True,
        autoincrement=True,
    ),
    Column("id", Text, nullable=False, unique=True),
    Column("client", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("frames", Integer, nullable=False),
    Column("predicted_seconds", Double, nullable=False),
    Column("deadline", Double, nullable=False),
    Column("created", Double, nullable=False),
    Column("state", Text, nullable=False),
    Column("started", Double),
    Column("finished", Double),
    Column("attempts", Integer, nullable=False),
    Column("problem", Text),
    # From version 2 on:
    Column("token", Integer, nullable=False, server_default="0"),
    Column("worker", Text),
    Column("lease_end", Double),
    Column("stage", Text),
    Column("progress", Double, nullable=False, server_default="0"),
    Column("event", BigInteger, nullable=False, server_default="0"),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Index("jobs_by_state", "state", "position"),
    Index("jobs_by_fingerprint", "fingerprint"),
    Index("jobs_by_client", "client", "created"),
    sqlite_autoincrement=True,
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("client", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("job", Text, nullable=False),
)

usage = Table(
    "usage",
    metadata,
    Column(
        "number",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("client", Text, nullable=False),
    Column("time", Double, nullable=False),
    Column("jobs", Integer, nullable=False),
    Column("megapixels", Double, nullable=False),
    Index("usage_by_client", "client", "time"),
)
"""What clients with a quota have used lately. Older versions know nothing of it, and do without."""

names = Table(
    "names",
    metadata,
    Column("job", Text, primary_key=True),
    Column("name", Text, nullable=False),
)
"""What people call their reconstructions. Older versions know nothing of it, and do without."""

webhooks = Table(
    "webhooks",
    metadata,
    Column("job", Text, primary_key=True),
    Column("url", Text, primary_key=True),
    Column("attempts", Integer, nullable=False),
    Column("due", Double, nullable=False),
)
"""Addresses that are still to be told of a job's end. Older versions know nothing of it, and tell
nobody."""

deliveries = Table(
    "deliveries",
    metadata,
    Column(
        "number",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("job", Text, nullable=False),
    Column("file", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("url", Text),  # only while it is needed: it may be a secret
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due", Double, nullable=False),
    Column("reason", Text),
    Index("deliveries_by_job", "job"),
    Index("deliveries_by_state", "state", "due"),
)
"""Files of results that are to be sent to URLs, or were. Older versions know nothing of it, and
send nothing."""

chunks = Table(
    "chunks",
    metadata,
    Column("job", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("event", BigInteger, nullable=False),
    Column("data", Text, nullable=False),
)
"""Events of the finished chunks of jobs that run, for replicas that run others. Older versions know
nothing of it, and tell of their own."""

batches = Table(
    "batches",
    metadata,
    Column(
        "number",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("id", Text, nullable=False, unique=True),
    Column("client", Text, nullable=False),
    Column("created", Double, nullable=False),
    Index("batches_by_client", "client", "number"),
)
"""Tables of scenes that became jobs or will. Older versions know nothing of them, and start
none."""

batch_scenes = Table(
    "batch_scenes",
    metadata,
    Column("batch", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("urls", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("standing", Text, nullable=False),
    Column("job", Text),
    Column("problem", Text),
    Column("attempt", Integer, nullable=False),
    Column("due", Double, nullable=False),
    Index("batch_scenes_by_standing", "standing", "due"),
)
"""The lines of these tables."""

_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

_ADDED = ("token", "worker", "lease_end", "stage", "progress", "event", "bytes")


class SchemaError(RuntimeError):
    """The database was made by a newer version of the service."""


def prepare(connection: Connection) -> None:
    """Make the tables, or bring those that are there up to date. Raises SchemaError.

    The caller sees to it that nobody else does the same at the same time.
    """
    version = _found(connection)
    if version > VERSION:
        raise SchemaError(
            f"the database of jobs has version {version}, made by a newer service; this one knows "
            f"up to {VERSION}. "
            "Start the newer one, or give this one another database"
        )
    if version == 1:
        _add_columns(connection)
    metadata.create_all(connection)
    if version < VERSION:
        connection.execute(insert(_version).values(version=VERSION))


def _found(connection: Connection) -> int:
    """The version of the tables that are there; 0 for none."""
    there = inspect(connection).get_table_names()
    if _version.name in there:
        return int(connection.scalar(select(_version.c.version)) or 0)
    return 1 if jobs.name in there else 0


def _add_columns(connection: Connection) -> None:
    for name in _ADDED:
        column = CreateColumn(jobs.c[name]).compile(dialect=connection.dialect)
        connection.execute(text(f"ALTER TABLE {jobs.name} ADD COLUMN {column}"))
    milliseconds = func.cast(1000 * func.coalesce(jobs.c.finished, jobs.c.created), BigInteger)
    connection.execute(update(jobs).where(jobs.c.state.in_(ENDED)).values(event=milliseconds))
