"""Large files that arrive in pieces and go on after an interruption: the tus protocol 1.0.0
(tus.io), with its extensions creation and termination, by the library tussi.

The library speaks the protocol and writes the files. What it leaves open is here and in
`upload_files`: whose a file is, how much room there is, how many pieces are in memory at a time,
and when a file goes.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from service.access import Client
from service.errors import (
    InvalidOption,
    TooManyBytes,
    TooManyConnections,
    UploadTimeout,
)
from service.inputs.upload_files import UploadFiles
from service.settings import Limits, QueueSettings, SettingsError, StorageSettings

if TYPE_CHECKING:
    from tussi import TUSApp

PIECE_BYTES = 16 * 2**20
"""Most bytes of one piece; each is held in memory while it arrives."""

_asking: ContextVar[Client] = ContextVar("asking")
_filename: ContextVar[str] = ContextVar("filename")


class ResumableUploads:
    """Those of `queue.upload_bytes` together, in a folder below `root`. Raises SettingsError where
    they are wanted and can't be had."""

    def __init__(
        self, queue: QueueSettings, limits: Limits, storage: StorageSettings, root: Path
    ) -> None:
        folder = root / "uploads"
        self._files = UploadFiles(folder, queue.upload_bytes, storage.min_free_bytes)
        self.on = queue.upload_bytes > 0
        """Whether any are taken."""
        self._limits = limits
        self._at_once = queue.max_uploads
        self._arriving: Counter[str] = Counter()  # pieces, by client
        self._creating = asyncio.Lock()
        if not self.on:
            return
        if storage.object_store is not None:
            raise SettingsError(
                "--upload-bytes keeps files on this machine's disk, where other replicas don't "
                "find them; leave it out, or database and object_store."
            )
        if importlib.util.find_spec("tussi") is None:
            raise SettingsError(
                "--upload-bytes needs tussi: install the extra `uploads`, on Python 3.11 or newer."
            )
        folder.mkdir(exist_ok=True)
        self._protocol = self._speak()
        self._files.recover()

    def _speak(self) -> TUSApp:
        from tussi import FilesystemStorage, TUSApp  # not installed with every service

        return TUSApp(
            FilesystemStorage(self._files.partial, directory_mode=0o700),
            self._files.complete,
            on_create=self._admit,
            max_size=self._limits.max_total_bytes,
            max_chunk_size=PIECE_BYTES,
        )

    # The protocol

    async def create(self, request: Request, client: Client) -> Response:
        """Make room for a file (POST). Raises QueueFull and StorageFull."""
        async with self._creating:
            answer = await self._answer(request, client, "POST")
        if "location" in answer.headers:  # else it names the scheme before any proxy
            answer.headers["location"] = urlsplit(answer.headers["location"]).path
        return answer

    async def receive(self, request: Request, client: Client, id: str) -> Response:
        """Take one piece (PATCH). Raises NotFound, TooManyBytes, TooManyConnections and
        UploadTimeout."""
        if len(length := request.headers.get("content-length", "")) > 18 or (
            length.isdecimal() and int(length) > PIECE_BYTES
        ):
            raise TooManyBytes(
                f"The piece has {length[:40]} bytes; at most {PIECE_BYTES} are taken at a time. "
                "Have the client send smaller ones: tus-js-client calls their size chunkSize.",
                max_piece_bytes=PIECE_BYTES,
            )
        await asyncio.to_thread(self._files.folder_of, client, id)
        mine = self._at_once // 2 if client.limited else self._at_once
        arriving = self._arriving
        if arriving.total() >= self._at_once or arriving[client.name] >= max(mine, 1):
            raise TooManyConnections("Other pieces of uploads are arriving; send this one again.")
        arriving[client.name] += 1
        seconds = self._limits.upload_timeout
        try:
            return await asyncio.wait_for(self._answer(request, client, "PATCH"), seconds)
        except asyncio.TimeoutError:
            raise UploadTimeout(
                f"The piece did not arrive within {seconds:g} seconds; send a smaller one.",
                upload_timeout=seconds,
            ) from None
        finally:
            arriving[client.name] -= 1
            if not arriving[client.name]:
                del arriving[client.name]

    async def tell(self, request: Request, client: Client, id: str) -> Response:
        """Say how much has arrived (HEAD). Raises NotFound."""
        folder = await asyncio.to_thread(self._files.folder_of, client, id)
        if folder == self._files.partial:
            return await self._answer(request, client, "HEAD")
        length = str((self._files.complete / id).stat().st_size)
        headers = {"Upload-Offset": length, "Upload-Length": length, "Cache-Control": "no-store"}
        return Response(status_code=204, headers={"Tus-Resumable": "1.0.0", **headers})

    async def describe(self, request: Request, client: Client) -> Response:
        """Say what of the protocol is known (OPTIONS)."""
        answer = await self._answer(request, client, "OPTIONS")
        answer.headers["Tus-Extension"] = "creation,termination"
        return answer

    def remove(self, client: Client, id: str) -> Response:
        """Remove a file (DELETE). Raises NotFound."""
        self._files.remove(client, id)
        return Response(status_code=204, headers={"Tus-Resumable": "1.0.0"})

    async def _answer(self, request: Request, client: Client, method: str) -> Response:
        metadata, filename = _with_plain_filename(request.headers.get("upload-metadata", ""))
        _asking.set(client)
        _filename.set(filename)
        headers = [
            (name, metadata if name == b"upload-metadata" else value)
            for name, value in request.scope["headers"]
            if name != b"x-http-method-override"  # what is allowed was decided by the true method
        ]
        scope = {**request.scope, "method": method, "headers": headers}
        return await self._protocol.get_response(scope, request.receive)

    # What the protocol leaves open

    def opener(self, client: Client) -> Callable[[str], UploadFile] | None:
        """What opens the client's files by their ids; None where none are taken."""
        if not self.on:
            return None
        return partial(self._files.open, client, most_bytes=self._limits.max_image_bytes)

    def tidy(self) -> None:
        """Remove what has not changed for too long."""
        if self.on:
            self._files.tidy()

    async def _admit(self, headers: Mapping[str, str], metadata: object) -> dict[str, str]:
        """What is recorded beside a new file. Raises InvalidOption, QueueFull and StorageFull."""
        client, length = _asking.get(), headers["upload-length"]
        if not re.fullmatch("[0-9]{1,18}", length):  # the library also takes 1_000
            raise InvalidOption(
                f"Upload-Length: {length[:40]!r} is not a number of bytes.", option="Upload-Length"
            )
        await asyncio.to_thread(self._files.check_room, client, int(length))
        return {"client": client.name, "filename": _filename.get()}


def _with_plain_filename(metadata: str) -> tuple[bytes, str]:
    """The header Upload-Metadata with a file name that the library takes, which refuses all but
    printable ASCII; and the name as it was sent, "" for none."""
    pairs, name = [], ""
    for pair in metadata.split(","):
        key, _, value = pair.strip().partition(" ")
        if key == "filename":
            with suppress(ValueError):
                name = base64.b64decode(value).decode()
                value = base64.b64encode(re.sub("[^ -~]", "_", name).encode()).decode()
        pairs.append(f"{key} {value}".strip())
    return ",".join(pairs).encode("latin-1"), name
