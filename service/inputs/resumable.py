"""Large files that arrive in pieces and go on after an interruption: the tus protocol 1.0.0
(tus.io), with its extensions creation and termination, by the library tussi.

    partial/{id}     a file of its full length, of which so much has arrived as its record says
    complete/{id}    one that has arrived; each beside its record, ``{id}.meta``

The library speaks the protocol and writes the files. What it leaves open is here: whose a file is,
how much room there is, how many pieces are in memory at a time, and when a file goes.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from service.access import Client
from service.errors import (
    InvalidOption,
    NotFound,
    QueueFull,
    StorageFull,
    TooManyBytes,
    TooManyConnections,
    UploadTimeout,
)
from service.inputs.signatures import kind_of
from service.settings import Limits, QueueSettings, SettingsError, StorageSettings

if TYPE_CHECKING:
    from tussi import TUSApp

PIECE_BYTES = 16 * 2**20
"""Most bytes of one piece; each is held in memory while it arrives."""
KEPT_HOURS = 24
"""How long a file is kept after its last piece."""

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MOST_FILES = 1000
_RECORD = ".meta"

_asking: ContextVar[Client] = ContextVar("asking")
_filename: ContextVar[str] = ContextVar("filename")


class ResumableUploads:
    """Those of `queue.upload_bytes` together, in a folder below `root`. Raises SettingsError where
    they are wanted and can't be had."""

    def __init__(
        self, queue: QueueSettings, limits: Limits, storage: StorageSettings, root: Path
    ) -> None:
        folder = root / "uploads"
        self._partial, self._complete = folder / "partial", folder / "complete"
        self._limits = limits
        self._most_bytes = queue.upload_bytes
        self._min_free_bytes = storage.min_free_bytes
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
        self._recover()

    @property
    def on(self) -> bool:
        """Whether any are taken."""
        return self._most_bytes > 0

    def _speak(self) -> TUSApp:
        from tussi import FilesystemStorage, TUSApp  # not installed with every service

        return TUSApp(
            FilesystemStorage(self._partial, directory_mode=0o700),
            self._complete,
            on_create=self._admit,
            max_size=self._limits.max_total_bytes,
            max_chunk_size=PIECE_BYTES,
        )

    def _recover(self) -> None:
        """Move what arrived whole just before an earlier process was killed."""
        for id, record in self._records(self._partial):
            if record["offset"] == record["length"]:
                name = f"{id}{_RECORD}"
                shutil.copy(self._partial / name, self._complete / name)
                (self._partial / id).rename(self._complete / id)
                (self._partial / name).unlink()

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
        await asyncio.to_thread(self._check_owner, client, id)
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
        folder = await asyncio.to_thread(self._check_owner, client, id)
        if folder == self._partial:
            return await self._answer(request, client, "HEAD")
        length = str((self._complete / id).stat().st_size)
        headers = {"Upload-Offset": length, "Upload-Length": length, "Cache-Control": "no-store"}
        return Response(status_code=204, headers={"Tus-Resumable": "1.0.0", **headers})

    async def describe(self, request: Request, client: Client) -> Response:
        """Say what of the protocol is known (OPTIONS)."""
        answer = await self._answer(request, client, "OPTIONS")
        answer.headers["Tus-Extension"] = "creation,termination"
        return answer

    def remove(self, client: Client, id: str) -> Response:
        """Remove a file (DELETE). Raises NotFound."""
        folder = self._check_owner(client, id)
        for path in (folder / id, folder / f"{id}{_RECORD}"):
            path.unlink(missing_ok=True)
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
        return partial(self.open, client) if self.on else None

    def open(self, client: Client, id: str) -> UploadFile:
        """A file that has arrived, to be read as if it were part of a form. Raises
        InvalidOption."""
        try:
            folder = self._check_owner(client, id)
            if folder == self._partial:
                raise InvalidOption(f"upload {id} has not arrived whole.", option="upload")
            record = self._record(folder, id)
            file: BinaryIO = (folder / id).open("rb")
        except (NotFound, FileNotFoundError):
            raise InvalidOption(
                f"upload: there is no upload {id[:40]!r} of yours; it may have been removed after "
                f"{KEPT_HOURS} hours.",
                option="upload",
            ) from None
        size = os.fstat(file.fileno()).st_size
        most = self._limits.max_image_bytes
        if size > most and kind_of(file) not in ("archive", "video"):
            file.close()
            raise InvalidOption(
                f"upload {id} is no archive or video, and has more than {most} bytes.",
                option="upload",
            )
        return UploadFile(file, size=size, filename=record["server_metadata"]["filename"])

    def tidy(self) -> None:
        """Remove what has not changed for too long."""
        if not self.on:
            return
        oldest = time.time() - 3600 * KEPT_HOURS
        for folder in (self._partial, self._complete):
            for path in folder.iterdir():
                try:
                    if path.stat().st_mtime < oldest:
                        path.unlink()
                except FileNotFoundError:
                    continue  # it has just arrived, or was removed

    async def _admit(self, headers: Mapping[str, str], metadata: object) -> dict[str, str]:
        """What is recorded beside a new file. Raises InvalidOption, QueueFull and StorageFull."""
        client, length = _asking.get(), headers["upload-length"]
        if not re.fullmatch("[0-9]{1,18}", length):  # the library also takes 1_000
            raise InvalidOption(
                f"Upload-Length: {length[:40]!r} is not a number of bytes.", option="Upload-Length"
            )
        await asyncio.to_thread(self._check_room, client, int(length))
        return {"client": client.name, "filename": _filename.get()}

    def _check_room(self, client: Client, length: int) -> None:
        sizes: dict[str, int] = {}
        files = 0
        for folder in (self._partial, self._complete):
            for _, record in self._records(folder):
                owner = record["server_metadata"].get("client", "")
                sizes[owner] = sizes.get(owner, 0) + record["length"]
                files += 1
        most = self._most_bytes
        mine = most // 2 if client.limited else most
        if (
            files >= _MOST_FILES
            or sum(sizes.values()) + length > most
            or sizes.get(client.name, 0) + length > mine
        ):
            raise QueueFull(
                f"{sum(sizes.values())} bytes in {files} files of uploads are kept, "
                f"{sizes.get(client.name, 0)} of them yours; with {length} more that would be too "
                f"many. At most {most} bytes are kept, {mine} of yours, in {_MOST_FILES} files. "
                "Remove some, or wait.",
                retry_after=600.0,
            )
        free = shutil.disk_usage(self._partial).free
        if free < length + self._min_free_bytes:
            raise StorageFull(
                f"{free} bytes are free; {length} are needed and {self._min_free_bytes} kept in "
                "reserve."
            )

    def _check_owner(self, client: Client, id: str) -> Path:
        """The folder where a file of the client's lies. Raises NotFound, for another's as for
        none."""
        if _ID.fullmatch(id):
            for folder in (self._partial, self._complete, self._complete):  # it may move meanwhile
                if not (folder / id).exists():
                    continue
                try:
                    if self._record(folder, id)["server_metadata"].get("client") == client.name:
                        return folder
                except FileNotFoundError:
                    continue
        raise NotFound("There is no such upload, or it was removed.")

    def _records(self, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        """The files of a folder by their ids."""
        for path in list(folder.iterdir()):
            if _ID.fullmatch(path.name):
                with suppress(FileNotFoundError):
                    yield path.name, self._record(folder, path.name)

    @staticmethod
    def _record(folder: Path, id: str) -> dict[str, Any]:
        """What is recorded of a file. Raises FileNotFoundError, too, for a record that was cut off
        by a kill or a power cut: the file is then nobody's, and goes with age."""
        try:
            return dict(json.loads((folder / f"{id}{_RECORD}").read_text()))
        except ValueError:
            raise FileNotFoundError(id) from None


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
