"""Fetching what URLs name, under the limits of an upload, into files like those of an upload.

httpcore speaks HTTP/1.1 and adds nothing to it: no proxy from the environment, no cookies, no
redirects, no decoding of compressed bodies. Redirects are followed here, each one checked like the
URL that was sent.
"""

from __future__ import annotations

import logging
import math
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from functools import cached_property
from typing import BinaryIO, cast

import anyio
import httpcore
import httpx
from starlette.datastructures import UploadFile

from service import __version__
from service.errors import FetchFailed, TooManyBytes, URLRefused
from service.inputs.remote.batch import Batch
from service.inputs.remote.hosts import Hosts, URLRefusedError, read_url
from service.inputs.remote.network import CheckedNetwork
from service.inputs.signatures import kind_of
from service.settings import AccessSettings, Limits

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 3
_SPOOL_BYTES = 2**20
_NOT_GIVEN = "no server that may be asked for it gave it"

_log = logging.getLogger("service")


class Fetcher:
    """Fetches for many requests; what it holds for one of them, connections included, no other one
    sees.

    Raises SettingsError if `fetch_hosts` can't be read.
    """

    def __init__(
        self,
        access: AccessSettings,
        limits: Limits,
        network: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self.access = access
        self.limits = limits
        self.hosts = Hosts(access.fetch_hosts)
        self._network = network or CheckedNetwork(self.hosts)

    @cached_property
    def _encryption(self) -> ssl.SSLContext:
        return httpx.create_ssl_context()

    async def fetch(self, urls: Mapping[int, str], spent: int) -> dict[int, UploadFile]:
        """A file for each URL, open and at its start; `spent` bytes of the request's limit are used
        up already.

        The keys are the pictures' indices in the request, in rising order; problems name them.
        Raises URLRefused, FetchFailed, TooManyBytes or, for a full disk, OSError, that of the first
        picture at fault; then no file stays open.
        """
        files = {index: UploadFile(_spool(), size=0) for index in urls}
        batch = Batch(files, self.limits.max_total_bytes, spent)
        try:
            async with httpcore.AsyncConnectionPool(
                self._encryption, network_backend=self._network
            ) as pool:
                await batch.fill(lambda index: _Fetch(self, pool, batch, index).run(urls[index]))
        except BaseException:
            for file in files.values():
                file.file.close()
            raise
        return files

    async def send(
        self,
        method: str,
        text: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes],
        seconds: float,
    ) -> int:
        """Send `body` to a URL, which is checked like those to fetch from, within so many seconds,
        and return the answer's status. Redirects are not followed.

        Raises URLRefusedError, TimeoutError, ssl.SSLError, httpcore's errors, and what `body`
        raises.
        """
        url = read_url(text)
        origin = self.hosts.origin(url)
        target = httpcore.URL(
            scheme=origin.scheme, host=origin.host, port=origin.port, target=url.raw_path
        )
        sent: list[tuple[str | bytes, str | bytes]] = [
            ("Host", url.netloc),
            ("User-Agent", f"quantvggt/{__version__}"),
            *headers.items(),
        ]
        each = dict.fromkeys(("connect", "read", "write", "pool"), self.access.fetch_timeout)
        with anyio.fail_after(seconds):
            async with (
                httpcore.AsyncConnectionPool(
                    self._encryption, network_backend=self._network
                ) as pool,
                pool.stream(
                    method, target, headers=sent, content=body, extensions={"timeout": each}
                ) as answer,
            ):
                return answer.status


class _Fetch:
    """One URL's way, over its redirects, into its file of the batch."""

    def __init__(
        self, fetcher: Fetcher, pool: httpcore.AsyncConnectionPool, batch: Batch, index: int
    ) -> None:
        self._access = fetcher.access
        self._limits = fetcher.limits
        self._hosts = fetcher.hosts
        self._pool = pool
        self._batch = batch
        self._index = index
        self._file = batch.files[index]
        self._host = ""

    async def run(self, text: str) -> None:
        redirected = ""
        try:
            url = read_url(text)
            self._file.filename = url.path
            for _ in range(_MOST_REDIRECTS + 1):
                target = await self._ask(url)
                if target is None:
                    return
                redirected = "redirects to a URL that "
                url = _followed(url, target)
        except URLRefusedError as error:
            raise URLRefused(
                f"The URL of picture {self._index} {redirected}{error}.", index=self._index
            ) from None
        except (httpcore.TimeoutException, httpcore.NetworkError) as error:
            raise self._failed(_NOT_GIVEN, error) from None
        except (httpcore.ProtocolError, ssl.SSLError) as error:
            raise self._failed("its server's answer breaks off or is not HTTP", error) from None
        raise self._failed(f"it redirects more than {_MOST_REDIRECTS} times")

    async def _ask(self, url: httpx.URL) -> str | None:
        """Fill the file, or return where the server sends us instead."""
        origin = self._hosts.origin(url)
        self._host = origin.host
        seconds = self._access.fetch_timeout
        async with self._pool.stream(
            "GET",
            httpcore.URL(
                scheme=origin.scheme, host=origin.host, port=origin.port, target=url.raw_path
            ),
            headers={
                "Host": url.netloc,
                "Accept": "*/*",
                "Accept-Encoding": "identity",
                "User-Agent": f"quantvggt/{__version__}",
            },
            extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), seconds)},
        ) as answer:
            location = _header(answer, b"location")
            if answer.status in _REDIRECTS and location:
                return location
            if answer.status != 200:
                raise self._failed(f"its server answered with status {answer.status}")
            if _header(answer, b"content-encoding").lower() not in ("", "identity"):
                raise self._failed("its server compressed it, which it was not asked for")
            await self._receive(answer)
        return None

    async def _receive(self, answer: httpcore.Response) -> None:
        batch, file = self._batch, self._file
        length = _header(answer, b"content-length")
        if length.isdecimal() and int(length) > batch.left(self._index):
            raise batch.too_many_bytes()  # early, and no more: bytes are counted as they arrive
        most: float = self._limits.max_image_bytes
        async for chunk in answer.aiter_stream():
            await file.write(chunk)
            size, left = file.size or 0, batch.left(self._index)
            if most < size <= left and _is_container(file.file):
                most = math.inf
            if most < min(size, left):
                raise TooManyBytes(
                    f"The URL of picture {self._index} names more than {most} bytes.",
                    max_image_bytes=most,
                    index=self._index,
                )
            batch.check_room()
        await file.seek(0)

    def _failed(self, why: str, error: Exception | None = None) -> FetchFailed:
        """What the client is told. Listed hosts may be internal: why they gave nothing is for the
        log alone."""
        _log.info(
            "the URL of picture %d on %s was not fetched: %s", self._index, self._host, error or why
        )
        reason = _NOT_GIVEN if self._hosts.listed else why
        return FetchFailed(
            f"The URL of picture {self._index} could not be fetched: {reason}.", index=self._index
        )


def _followed(url: httpx.URL, location: str) -> httpx.URL:
    read_url(location)
    try:
        target = url.join(location.strip())
    except httpx.InvalidURL:
        raise URLRefusedError("is not a URL") from None
    if url.scheme == "https" and target.scheme == "http":
        raise URLRefusedError("gives up https")
    return target


def _header(answer: httpcore.Response, name: bytes) -> str:
    return next(
        (value.decode("latin-1") for key, value in answer.headers if key.lower() == name), ""
    )


def _is_container(file: BinaryIO) -> bool:
    file.seek(0)
    container = kind_of(file) in ("archive", "video")
    file.seek(0, 2)
    return container


def _spool() -> BinaryIO:
    return cast("BinaryIO", tempfile.SpooledTemporaryFile(_SPOOL_BYTES))
