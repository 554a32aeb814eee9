"""Where a model came from: enough to make it again."""

from __future__ import annotations

import hashlib
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from model import families
from model.families.family import Licence
from model.files.artifact import sha256
from model.files.checkpoint import locate
from model.files.weights import files_of

_SAID = "said when the checkpoint was quantised"


def describe(location: str, licence: str | None = None) -> dict[str, Any]:
    """Name, licence and SHA-256 of a checkpoint and, in a git checkout, the commit of this code.

    Without `licence` it is that of a checkpoint known by name, else None. A copy of such a
    checkpoint has its licence if `licence` is that name. Whether it allows commercial use is known
    of these only. `licence_source` says where.
    """
    path = locate(location)
    known = families.LICENCES.get(re.split("[@:]", location)[0])
    copied = families.LICENCES.get(licence or "")
    if copied is not None:
        known = replace(copied, source=f"{_SAID}, as that of {licence}: {copied.source}")
    elif licence:
        known = Licence(licence, None, _SAID)
    named = location if location == "demo" or not Path(location).exists() else path.name
    return {
        "checkpoint": named,
        "weights_licence": None if known is None else known.name,
        "commercial_use": None if known is None else known.commercial,
        "licence_source": None if known is None else known.source,
        "checkpoint_sha256": digest(path),
        "commit": commit(),
    }


def digest(checkpoint: Path) -> str:
    """SHA-256 of a weights file; of an index and its shards, that of the list of theirs as
    `sha256sum` writes it."""
    files = files_of(checkpoint)
    if files == [checkpoint]:
        return sha256(checkpoint)
    lines = [f"{sha256(file)}  {file.name}\n" for file in (checkpoint, *files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def commit() -> str | None:
    """The checked-out commit of this code, "-dirty" if it was changed since; None outside a git
    checkout."""
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
