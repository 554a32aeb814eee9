"""Files of resumable uploads on disk: whose they are, how much room there is, and when they go.

    partial/{id}     a file of its full length, of which so much has arrived as its record says
    complete/{id}    one that has arrived; each beside its record, ``{id}.meta``

The library tussi writes files and records; see `resumable`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from starlette.datastructures import UploadFile

from service.access import Client
from service.errors import InvalidOption, NotFound, QueueFull, StorageFull
from service.inputs.signatures import kind_of

KEPT_HOURS = 24
"""How long a file is kept after its last piece."""

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MOST_FILES = 1000
_RECORD = ".meta"


class UploadFiles:
    """Those in `folder`, of `most_bytes` together, with `min_free_bytes` of the disk left free."""

    def __init__(self, folder: Path, most_bytes: int, min_free_bytes: int) -> None:
        self.partial, self.complete = folder / "partial", folder / "complete"
        self._most_bytes = most_bytes
        self._min_free_bytes = min_free_bytes

    def recover(self) -> None:
        """Move what arrived whole just before an earlier process was killed."""
        for id, record in self._records(self.partial):
            if record["offset"] == record["length"]:
                name = f"{id}{_RECORD}"
                shutil.copy(self.partial / name, self.complete / name)
                (self.partial / id).rename(self.complete / id)
                (self.partial / name).unlink()

    def check_room(self, client: Client, length: int) -> None:
        """Raises QueueFull if with so many bytes more the client's files, or all together, were too
        many, and StorageFull if the disk were too full."""
        sizes: dict[str, int] = {}
        files: Counter[str] = Counter()
        for folder in (self.partial, self.complete):
            for _, record in self._records(folder):
                owner = record["server_metadata"].get("client", "")
                sizes[owner] = sizes.get(owner, 0) + record["length"]
                files[owner] += 1
        most = self._most_bytes
        share = 2 if client.limited else 1
        mine, my_files = most // share, _MOST_FILES // share
        if (
            files.total() >= _MOST_FILES
            or files[client.name] >= my_files
            or sum(sizes.values()) + length > most
            or sizes.get(client.name, 0) + length > mine
        ):
            raise QueueFull(
                f"{sum(sizes.values())} bytes in {files.total()} files of uploads are kept, "
                f"{sizes.get(client.name, 0)} in {files[client.name]} of them yours; with {length} "
                f"more that would be too many. At most {most} bytes in {_MOST_FILES} files are "
                f"kept, {mine} in {my_files} of them yours. Remove some, or wait.",
                retry_after=600.0,
            )
        free = shutil.disk_usage(self.partial).free
        if free < length + self._min_free_bytes:
            raise StorageFull(
                f"{free} bytes are free; {length} are needed and {self._min_free_bytes} kept in "
                "reserve."
            )

    def folder_of(self, client: Client, id: str) -> Path:
        """The folder where a file of the client's lies. Raises NotFound, for another's as for
        none."""
        if _ID.fullmatch(id):
            for folder in (self.partial, self.complete, self.complete):  # it may move meanwhile
                if not (folder / id).exists():
                    continue
                try:
                    if self._record(folder, id)["server_metadata"].get("client") == client.name:
                        return folder
                except FileNotFoundError:
                    continue
        raise NotFound("There is no such upload, or it was removed.")

    def open(self, client: Client, id: str, most_bytes: int) -> UploadFile:
        """A file that has arrived, to be read as if it were part of a form. Raises InvalidOption,
        also for one of more than `most_bytes` that is no archive or video."""
        try:
            folder = self.folder_of(client, id)
            if folder == self.partial:
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
        if size > most_bytes and kind_of(file) not in ("archive", "video"):
            file.close()
            raise InvalidOption(
                f"upload {id} is no archive or video, and has more than {most_bytes} bytes.",
                option="upload",
            )
        return UploadFile(file, size=size, filename=record["server_metadata"]["filename"])

    def remove(self, client: Client, id: str) -> None:
        """Remove one of the client's files. Raises NotFound."""
        folder = self.folder_of(client, id)
        for path in (folder / id, folder / f"{id}{_RECORD}"):
            path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what has not changed for too long."""
        oldest = time.time() - 3600 * KEPT_HOURS
        for folder in (self.partial, self.complete):
            for path in folder.iterdir():
                try:
                    if path.stat().st_mtime < oldest:
                        path.unlink()
                except FileNotFoundError:
                    continue  # it has just arrived, or was removed

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
