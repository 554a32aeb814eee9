"""A picture as the refinement reads it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from PIL import Image


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
    """Maker, model, focal length and digital zoom from EXIF, as one text. Pictures of one size with
    the same text were taken by one camera; None if not known."""
    focal: float | None = None
    """Focal length in pixels as EXIF gives it (35 mm equivalent), or None."""


_ORIENTATION, _MAKER, _MODEL, _EXIF_IFD = 0x0112, 0x010F, 0x0110, 0x8769
_FOCAL_LENGTH, _FOCAL_LENGTH_35_MM, _DIGITAL_ZOOM = 0x920A, 0xA405, 0xA404
_DIAGONAL_35_MM = math.hypot(36, 24)


def photograph_of(path: Path) -> Photograph:
    """A picture file with its size and what EXIF says of the lens.

    Raises ValueError if it is not an upright 8-bit RGB JPEG or PNG, OSError if it can't be read.
    """
    with Image.open(path) as image:
        exif = image.getexif()
        if image.format not in ("JPEG", "PNG") or image.mode != "RGB":
            raise ValueError(f"{path} is {image.format} {image.mode}; expected JPEG or PNG in RGB")
        if exif.get(_ORIENTATION, 1) != 1:
            raise ValueError(f"{path} has to be turned by EXIF; save it upright first")
        lens, focal = lens_of(exif, image.height, image.width)
        return Photograph(path, image.height, image.width, lens, focal)


def lens_of(exif: Image.Exif, height: int, width: int) -> tuple[str | None, float | None]:
    """`Photograph.lens` and `Photograph.focal` of a picture with these EXIF data."""
    details = exif.get_ifd(_EXIF_IFD)
    zoom = details.get(_DIGITAL_ZOOM)
    known = (
        exif.get(_MAKER),
        exif.get(_MODEL),
        details.get(_FOCAL_LENGTH),
        details.get(_FOCAL_LENGTH_35_MM),
        None if zoom in (0, 1) else zoom,  # where none was used
    )
    lens = " ".join(str(value).strip("\0 ") for value in known if value is not None) or None
    equivalent = _positive(details.get(_FOCAL_LENGTH_35_MM))
    focal = None
    if equivalent is not None:
        focal = equivalent / _DIAGONAL_35_MM * math.hypot(height, width)
    return lens, focal


def _positive(value: object) -> float | None:
    """A number of EXIF, None if it is none, or not a finite one above 0."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if 0 < number < math.inf else None
