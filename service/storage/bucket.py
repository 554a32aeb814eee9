"""Folders of files in an object store: S3 and what speaks like it, Google's, Azure's, or a file
system that is mounted.

Endpoint and credentials come from the variables that each provider's own tools read, for example
AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_REGION and, for a server without TLS, AWS_ALLOW_HTTP=true.
An object appears whole or not at all.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from service.errors import StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

SCHEMES = ("s3", "gs", "az", "file")
_RETRIES: RetryConfig = {"max_retries": 4, "retry_timeout": timedelta(seconds=30)}
_TIMEOUTS: ClientConfig = {
    "connect_timeout": timedelta(seconds=3),
    "read_timeout": timedelta(seconds=15),
    "timeout": timedelta(minutes=15),  # of one request with its whole body
}

_log = logging.getLogger("service")


class BucketError(ValueError):
    """An object store's address is none, or what it needs is not installed."""


@dataclass(frozen=True)
class Stored:
    """One object: its folder, its size in bytes, and when it was written."""

    folder: str
    bytes: int
    written: datetime


class Bucket:
    """The object store at `url`, for example ``s3://bucket/prefix``. Raises BucketError.

    Every method raises StoreUnavailable if the store can't be reached or refuses, after a few
    attempts.
    """

    def __init__(self, url: str) -> None:
        if importlib.util.find_spec("obstore") is None:
            raise BucketError("an object store needs obstore; install the extra `replicas`")
        import obstore.store  # not installed with every service

        scheme, host = urlsplit(url)[:2]
        if "@" in host:
            raise BucketError(
                "an object store's address holds no user or key; give those in the provider's "
                "variables"
            )
        if scheme not in SCHEMES:
            raise BucketError(
                f"{url!r} is no object store; give one of {', '.join(f'{s}://…' for s in SCHEMES)}"
            )
        own: dict[str, Any] = {"mkdir": True} if scheme == "file" else {}
        if scheme != "file":
            plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
            own = {"client_options": {**_TIMEOUTS, "allow_http": plain}, "retry_config": _RETRIES}
        try:
            self._store = obstore.store.from_url(url, **own)
        except (obstore.exceptions.BaseError, ValueError) as error:
            raise BucketError(f"{url!r} can't be used: {_first_line(error)}") from None
        self._obstore = obstore

    def check(self) -> None:
        """Whether it answers and lets itself be listed."""
        with self._reached():
            next(iter(self._obstore.list(self._store, "incoming/", chunk_size=1)), None)

    def send(self, source: Path, folder: str, last: str | None = None) -> None:
        """Store every file that lies in `source` under `folder`, the one named `last` after all
        others."""
        files = sorted(
            (path for path in source.iterdir() if path.is_file()),
            key=lambda path: path.name == last,
        )
        for path in files:
            self.send_file(path, folder)

    def send_file(self, file: Path, folder: str) -> None:
        """Store `file` under `folder`."""
        with self._reached():
            self._obstore.put(self._store, f"{folder}/{file.name}", file)

    async def put(self, file: Path, path: str, media_type: str) -> None:
        """Store `file` at `path`, read piece by piece."""
        with self._reached():
            await self._obstore.put_async(
                self._store, path, file, attributes={"Content-Type": media_type}
            )

    def fetch(self, folder: str, target: Path) -> None:
        """Write every object of `folder` into the folder `target`. Raises FileNotFoundError if
        there is none."""
        with self._reached():
            paths = [
                meta["path"]
                for metas in self._obstore.list(self._store, f"{folder}/")
                for meta in metas
            ]
        if not paths:
            raise FileNotFoundError(folder)
        for path in paths:
            with (
                self._reached(missing=FileNotFoundError),
                (target / Path(path).name).open("wb") as file,
            ):
                for chunk in self._obstore.get(self._store, path):
                    file.write(chunk)

    def read(self, path: str) -> bytes | None:
        """One small object; None if it is not there."""
        try:
            with self._reached(missing=FileNotFoundError):
                return bytes(self._obstore.get(self._store, path).bytes())
        except FileNotFoundError:
            return None

    def remove(self, folder: str) -> None:
        """Remove every object of `folder`, if there are any."""
        with self._reached():
            paths = [
                meta["path"]
                for metas in self._obstore.list(self._store, f"{folder}/")
                for meta in metas
            ]
            if paths:
                self._obstore.delete(self._store, paths)

    def listing(self, folder: str) -> Iterator[Stored]:
        """Every object below `folder`."""
        with self._reached():
            for metas in self._obstore.list(self._store, f"{folder}/", chunk_size=1000):
                for meta in metas:
                    yield Stored(
                        meta["path"].rpartition("/")[0], meta["size"], meta["last_modified"]
                    )

    @contextmanager
    def _reached(self, missing: type[Exception] = StoreUnavailable) -> Iterator[None]:
        """Tell what the library raises in the service's words. A bucket that is missing looks like
        a missing object."""
        try:
            yield
            return
        except FileNotFoundError as error:
            if missing is FileNotFoundError:
                raise
            reason = _first_line(error)
        except self._obstore.exceptions.BaseError as error:
            reason = _first_line(error)
        _log.warning("the object store can't be used now: %s", reason)
        raise StoreUnavailable("The object store that the replicas share can't be reached.")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
