"""A picture as the refinement reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Photograph:
    """One picture on disk, at its original resolution.

    The file is an 8-bit RGB JPEG or PNG that is upright as it lies there: it needs no turning by
    EXIF.
    """

    path: Path
    height: int
    width: int
    lens: str | None = None
    """Maker, model and focal length from EXIF, as one text. Pictures of one size with the same
    text were taken by one camera; None if not known."""
    focal: float | None = None
    """Focal length in pixels as EXIF gives it (35 mm equivalent), or None."""
