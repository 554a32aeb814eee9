"""A reconstruction as a folder on the user's disk: the files of ``everything.zip``, unpacked."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path


def extract(archive: zipfile.ZipFile, out: Path) -> None:
    """Unpack the service's own archive into `out`. Raises ValueError for a name that leads out of it."""
    for entry in archive.infolist():
        target = (out / entry.filename).resolve()
        if not target.is_relative_to(out.resolve()):
            raise ValueError(f"the archive has the name {entry.filename!r}, which leads out of {out}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
