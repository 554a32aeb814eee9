"""Settings of jobs: how many may wait, where they and their results are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.settings.setting import SettingsError, setting

if TYPE_CHECKING:
    from sqlalchemy import URL


@dataclass(frozen=True, kw_only=True)
class QueueSettings:
    """How much may wait, and how long a job may take."""

    queue_limit: int = setting(
        "requests that may wait while another one runs, in the queue that replicas share",
        8,
        ge=0,
    )
    max_uploads: int = setting("requests whose bodies are read at the same time", 8, ge=1)
    upload_bytes: int = setting(
        "bytes of disk for files that are sent in pieces (tus) before the request that names them; "
        "0 for none; needs the extra `uploads`",
        0,
        ge=0,
    )
    max_queue_seconds: float = setting(
        "most predicted seconds of work that may wait",
        14_400.0,
        gt=0,
    )
    job_timeout: float = setting(
        "seconds a reconstruction may take from acceptance to end; what is predicted to take "
        "longer is refused",
        14_400.0,
        gt=0,
    )
    stall_timeout: float = setting(
        "seconds without progress after which the process ends",
        600.0,
        gt=0,
    )
    lease: float = setting(
        "seconds without news of a replica after which another takes over what it runs",
        15.0,
        ge=1,
    )


@dataclass(frozen=True, kw_only=True)
class StorageSettings:
    """Where jobs and results are kept, how many and how long."""

    data_dir: Path | None = setting(
        "folder for results; without it a temporary one, removed on exit",
        None,
    )
    keep: int = setting(
        "reconstructions kept, by all replicas together; the oldest is removed first",
        100,
        ge=1,
    )
    keep_hours: float | None = setting(
        "hours after which a result is removed; without it never",
        None,
        gt=0,
    )
    keep_bytes: int = setting(
        "most bytes of results, on disk or in the object store; the oldest go first",
        20 * 2**30,
        ge=1,
    )
    min_free_bytes: int = setting(
        "free bytes on the results' disk below which uploads end",
        256 * 2**20,
        ge=0,
    )
    database: str | None = setting(
        "PostgreSQL database that replicas share, postgresql://user:password@host/name; needs "
        "object_store too; without it jobs are recorded in the data folder",
        None,
        repr=False,
    )
    database_file: Path | None = setting(
        "file that holds the address of the database, as secrets do",
        None,
    )
    object_store: str | None = setting(
        "object store that replicas share, for example s3://bucket/prefix; needs database; "
        "endpoint and credentials come from the provider's own variables; the data folder then "
        "holds copies",
        None,
    )
    cache_bytes: int = setting(
        "most bytes of copies on disk of what lies in the object store",
        10 * 2**30,
        ge=1,
    )

    output_prefixes: str | None = setting(
        "prefixes of object stores that requests may have files copied below (`output`), for "
        "example s3://bucket/results, with commas between them; without it none",
        None,
    )

    def shared_database(self) -> URL | None:
        """Where jobs of all replicas are recorded; None for a process by itself. Raises
        SettingsError."""
        if self.database is not None:
            return _postgresql(self.database, "database")
        if self.database_file is None:
            return None
        try:
            return _postgresql(self.database_file.read_text().strip(), f"{self.database_file}")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"can't read database_file {self.database_file}: {error}."
            ) from None


def _postgresql(text: str, source: str) -> URL:
    """The address without a word of it in an error: it holds a password."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise SettingsError(
            f"{source} holds no address such as postgresql://user:password@host/name."
        ) from None
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise SettingsError(
            f"{source} is an address for {url.drivername}; give one that begins with postgresql://."
        )
    return url.set(drivername="postgresql+psycopg")
