"""All files of a result together: a manifest that lists them, and one zip archive."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

from service.result.document import RESULT_FILE, ReconstructionDocument
from service.result.file import MadeFile

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
