"""A file that was made from a result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MadeFile:
    """A finished file: where it lies, its size, and its SHA-256 in hexadecimal."""

    path: Path
    bytes: int
    sha256: str
