"""Where a model came from: enough to make it again."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path
from typing import Any

from model.files.artifact import sha256
from model.files.checkpoint import resolve_checkpoint
from model.files.weights import files_of

# Model cards of the public repositories, read 2026-11; the demo model is our own.
_LICENCES = {"demo": "Apache-2.0", "facebook/VGGT-1B": "CC-BY-NC-4.0", "facebook/VGGT-1B-Commercial": "VGGT commercial"}


def describe(location: str, licence: str | None = None) -> dict[str, Any]:
    """Name, licence and SHA-256 of a checkpoint and, in a git checkout, the commit of this code.

    Without `licence` it is that of a checkpoint known by name, else None.
    """
    path, _ = resolve_checkpoint(location)
    named = location if location == "demo" or not Path(location).exists() else path.name
    return {
        "checkpoint": named,
        "weights_licence": licence or _LICENCES.get(re.split("[@:]", location)[0]),
        "checkpoint_sha256": digest(path),
        "commit": commit(),
    }


def digest(checkpoint: Path) -> str:
    """SHA-256 of a weights file; of an index and its shards, that of the list of theirs as `sha256sum` writes it."""
    files = files_of(checkpoint)
    if files == [checkpoint]:
        return sha256(checkpoint)
    lines = [f"{sha256(file)}  {file.name}\n" for file in (checkpoint, *files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def commit() -> str | None:
    """The checked-out commit of this code, "-dirty" if it was changed since; None outside a git checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
