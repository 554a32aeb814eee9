"""Results on disk: one folder per reconstruction, of which only the newest are kept.

``result.json`` is written last and by renaming, so a folder that has it is whole; anything else is swept away
at the next start. Names inside the folder are fixed; nothing that a client sends becomes part of a path.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.problems import NotFound

_ID = re.compile(r"[0-9a-f]{32}")
_RESULT = "result.json"


def new_id() -> str:
    """A name for a reconstruction that can't be guessed."""
    return uuid.uuid4().hex


class Storage:
    """The reconstructions under `root`, at most `keep` of them. Safe to call from several threads."""

    def __init__(self, root: Path | None, keep: int) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="reconstructions-") if root is None else None
        self.root = Path(self._temporary.name) if self._temporary else Path(root or "")
        self.keep = keep
        self._lock = threading.Lock()
        self.root.mkdir(parents=True, exist_ok=True)
        for folder in self._folders():
            if not (folder / _RESULT).is_file():
                shutil.rmtree(folder, ignore_errors=True)
        self._evict()

    def save(self, id: str, arrays: Mapping[str, NDArray[Any]], result: bytes) -> None:
        """Store the arrays and, as the act that makes them visible, the result's JSON."""
        folder = self._folder(id)
        folder.mkdir()
        try:
            for name, array in arrays.items():
                np.save(folder / f"{name}.npy", array, allow_pickle=False)
            partial = folder / f"{_RESULT}.partial"
            with partial.open("wb") as file:
                file.write(result)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(folder / _RESULT)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._evict()

    def result(self, id: str) -> bytes:
        """The result's JSON. Raises NotFound."""
        try:
            return (self._folder(id) / _RESULT).read_bytes()
        except FileNotFoundError:
            raise NotFound("There is no reconstruction of this id; only the newest are kept.") from None

    def array(self, id: str, name: str) -> NDArray[Any]:
        """A stored array, mapped rather than read. Raises NotFound."""
        try:
            array: NDArray[Any] = np.load(self._folder(id) / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            return array
        except FileNotFoundError:
            raise NotFound("There is no reconstruction of this id; only the newest are kept.") from None

    def close(self) -> None:
        """Remove the temporary folder, if there is one."""
        if self._temporary is not None:
            self._temporary.cleanup()

    def _folder(self, id: str) -> Path:
        if not _ID.fullmatch(id):
            raise NotFound("A reconstruction's id is 32 hexadecimal digits.")
        return self.root / id

    def _folders(self) -> list[Path]:
        return [path for path in self.root.iterdir() if _ID.fullmatch(path.name) and path.is_dir()]

    def _evict(self) -> None:
        with self._lock:
            whole = [(f / _RESULT, f) for f in self._folders() if (f / _RESULT).is_file()]
            ordered = sorted(whole, key=lambda pair: pair[0].stat().st_mtime_ns)
            for _, folder in ordered[: max(len(ordered) - self.keep, 0)]:
                shutil.rmtree(folder, ignore_errors=True)
