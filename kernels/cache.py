"""Where compiled kernels are kept, and what was measured and tried of them."""

from __future__ import annotations

import json
import os
import tempfile
from functools import cache
from pathlib import Path

_temporary: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


@cache
def cache_folder() -> Path:
    """`$QUANTVGGT_KERNEL_CACHE`, else a folder in the user's cache; a temporary one if that cannot
    be written."""
    named = os.environ.get("QUANTVGGT_KERNEL_CACHE")
    if named:
        return Path(named)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quantvggt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        _temporary.append(tempfile.TemporaryDirectory(prefix="quantvggt-"))
        return Path(_temporary[0].name)


def keep(path: Path, document: object) -> None:
    """Writes `document` as JSON, whole or not at all. A folder that can't be written is no error:
    the next start finds nothing."""
    made = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as made:
            json.dump(document, made)
        os.replace(made.name, path)
    except OSError:
        if made is not None:
            Path(made.name).unlink(missing_ok=True)
