"""Finished stages on disk, which a killed calibration goes on from: files with checksums, and a
journal of them."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from model.files.artifact import sha256


class CalibrationError(RuntimeError):
    """Calibration cannot go on; finished stages are kept."""


class StageStore:
    """A folder with one tensor file a finished stage and a journal.

    `identity` says what is being quantised, how and on what; a folder that was begun with another
    one is refused.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Raises CalibrationError if the folder cannot be used."""
        self.folder = folder
        self._journal = folder / "journal.json"
        self._identity = json.loads(json.dumps(identity))
        self._stages: dict[str, dict[str, Any]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CalibrationError(
                f"cannot make the folder of finished blocks {folder}: {error.strerror}"
            ) from error
        if self._journal.exists():
            self._open()

    def _open(self) -> None:
        try:
            journal = json.loads(self._journal.read_text())
            begun, self._stages = journal["identity"], journal["stages"]
        except (ValueError, KeyError, TypeError) as error:
            raise CalibrationError(
                f"{self._journal} is damaged; remove {self.folder} to begin anew"
            ) from error
        changed = sorted(key for key in self._identity if begun.get(key) != self._identity[key])
        if changed:
            raise CalibrationError(
                f"{self.folder} holds blocks of another run (it differs in {', '.join(changed)}); "
                "give the same options as before, or remove it to begin anew"
            )

    def get(self, stage: str) -> tuple[dict[str, Tensor], Any] | None:
        """Tensors and record of a finished stage; None if it is not there or does not match its
        checksum."""
        entry = self._stages.get(stage)
        if entry is None:
            return None
        file = self.folder / entry["file"]
        if not file.is_file() or sha256(file) != entry["sha256"]:
            return None
        return load(file.read_bytes()), entry["record"]

    def put(self, stage: str, tensors: Mapping[str, Tensor], record: Any) -> None:
        """Writes the tensors, then the journal that names them. Raises CalibrationError if the disk
        is full."""
        file = self.folder / f"{stage}.safetensors"
        data = save(
            {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
        )
        try:
            _write(file, data)
            self._stages[stage] = {"file": file.name, "sha256": sha256(file), "record": record}
            text = json.dumps({"identity": self._identity, "stages": self._stages}, indent=1)
            _write(self._journal, text.encode())
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise CalibrationError(
                    f"cannot write {file}: {error.strerror}; finished blocks are kept"
                ) from error
            raise CalibrationError(
                f"no space left to write {file} ({len(data) / 2**20:,.1f} MiB); "
                f"{len(self._stages)} finished blocks "
                "are kept: make room and run the same command again"
            ) from error


def _write(path: Path, data: bytes) -> None:
    """Under a temporary name first, so that the file is whole or not there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
