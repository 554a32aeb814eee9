"""Finished files over HTTP: strong validators, ranges, and constant memory (RFC 9110; digests by
RFC 9530)."""

from __future__ import annotations

import base64
import re
from typing import BinaryIO
from urllib.parse import quote

import anyio.to_thread
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.errors import RangeNotSatisfiable, gone
from service.result.file import MadeFile

_CHUNK = 2**18


class Download(Response):
    """One file, whole or one range of it, or 304 if the client has it.

    The file is open from the start, so it can be sent even if the reconstruction is removed
    meanwhile. A Range header that is malformed or asks for several ranges is answered with the
    whole file, as the RFC allows. Raises RangeNotSatisfiable, and NotFound if the reconstruction is
    gone by now.
    """

    def __init__(
        self,
        request: Headers,
        file: MadeFile,
        media_type: str,
        name: str,
        headers: dict[str, str] | None = None,
    ) -> None:
        etag = f'"{file.sha256}"'
        kind = "inline" if media_type.startswith("image/") else "attachment"
        encoded = f"; filename*=UTF-8''{quote(name)}" if not name.isascii() else ""
        plain = name.encode("ascii", "replace").decode()
        fixed = {
            "ETag": etag,
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, max-age=86400, immutable",
            "Content-Disposition": f'{kind}; filename="{plain}"{encoded}',
            "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(file.sha256)).decode()}:",
        }
        self._first, self._length = 0, file.bytes
        status = 200
        if _matches(request.get("if-none-match"), etag):
            status, self._length = 304, 0
        elif "range" in request and request.get("if-range", etag) == etag:
            found = _read_range(request["range"], file.bytes)
            if found is not None:
                status = 206
                self._first, self._length = found
                last = self._first + self._length - 1
                fixed["Content-Range"] = f"bytes {self._first}-{last}/{file.bytes}"
        try:
            self._file: BinaryIO = file.path.open("rb")
        except FileNotFoundError:
            raise gone() from None  # removed since it was looked up
        if status != 304:
            fixed["Content-Length"] = str(self._length)
        super().__init__(None, status, fixed | (headers or {}), media_type)
        if status == 304:
            del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file as file:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            left = self._length
            await anyio.to_thread.run_sync(file.seek, self._first)
            while left > 0:
                chunk = await anyio.to_thread.run_sync(file.read, min(_CHUNK, left))
                left -= len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _matches(if_none_match: str | None, etag: str) -> bool:
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags


def _read_range(header: str, size: int) -> tuple[int, int] | None:
    """First byte and length; None if the header is to be ignored. Raises RangeNotSatisfiable."""
    found = re.fullmatch(r"\s*bytes\s*=\s*(\d{0,18})-(\d{0,18})\s*", header, re.IGNORECASE)
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size or (not first and int(last) == 0):
        raise RangeNotSatisfiable(
            f"The file has {size} bytes; {header[:60]} is beyond it.", bytes=size
        )
    return start, end - start
