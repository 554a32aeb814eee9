"""All files of a result together: a manifest that lists them, and one zip archive."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from service.result.document import RESULT_FILE, ReconstructionDocument
from service.result.file import MadeFile

_PIECE = 2**18
STAMP = (1980, 1, 1, 0, 0, 0)
"""The time of every entry of every archive: the same files give the same bytes."""


def write_manifest(
    document: ReconstructionDocument, files: Iterable[tuple[str, MadeFile]], path: Path
) -> None:
    """What made the result, and size and SHA-256 of every file with the reconstruction's own
    options."""
    result = document.model_dump(mode="json", exclude={"pictures", "links", "state", "progress"})
    listed = {name: {"bytes": file.bytes, "sha256": file.sha256} for name, file in files}
    path.write_text(json.dumps({**result, "files": listed}, indent=1) + "\n")


def write_archive(
    document: ReconstructionDocument, files: Iterable[tuple[str, MadeFile]], path: Path
) -> None:
    """A zip archive of `document`, whose links are relative, and `files`, each with its name."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(
            zipfile.ZipInfo(RESULT_FILE, STAMP), document.model_dump_json(indent=1) + "\n"
        )
        for name, file in files:
            entry = archive.open(zipfile.ZipInfo(name, STAMP), "w", force_zip64=True)
            with entry, file.path.open("rb") as source:
                shutil.copyfileobj(source, entry)


def joined_archives(
    archives: Iterable[tuple[str, MadeFile]], last: str, content: Callable[[], str]
) -> Iterator[bytes]:
    """The bytes of one zip archive with the entries of several, each below a folder of its name,
    and at the end the file `last`. It takes no disk, and memory for one piece of a file."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as whole:
        for folder, file in archives:
            with zipfile.ZipFile(file.path) as archive:
                for entry in archive.infolist():
                    named = zipfile.ZipInfo(f"{folder}/{entry.filename}", STAMP)
                    with (
                        archive.open(entry) as source,
                        whole.open(named, "w", force_zip64=True) as target,
                    ):
                        while piece := source.read(_PIECE):
                            target.write(piece)
                            yield sink.taken()
                    yield sink.taken()
        whole.writestr(zipfile.ZipInfo(last, STAMP), content() + "\n")
    yield sink.taken()


class _Sink(io.RawIOBase):
    """Takes bytes to be sent on, and can't go back."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        return len(piece)

    def taken(self) -> bytes:
        """What was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
