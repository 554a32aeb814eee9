"""The upright original pictures of a request, kept where cameras and depth are to be refined on
them.

Each is one JPEG file: the very bytes that were sent if they are an upright RGB JPEG, else encoded
anew. EXIF data is read now, for what is encoded anew has none.
"""

from __future__ import annotations

import errno
import hashlib
import io
import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from PIL import ExifTags, Image

from model.scene.pictures import FORMATS, orientation
from refinement.photograph import Photograph
from service.errors import StorageFull
from service.inputs.body import SentFile
from service.inputs.options import Options
from service.settings import RefinementSettings

_QUALITY = 95
_FILM_DIAGONAL = math.hypot(36, 24)
_TEXT_LENGTH = 80


@dataclass(frozen=True)
class RefinementOrder:
    """What of a scene is to be refined, and how: a request's options and, where it says nothing,
    the service's settings."""

    wanted: Literal["cameras", "dense"]
    camera: Literal["auto", "shared", "each"]
    distortion: Literal["none", "radial"]
    pixels: int
    seconds: float

    @classmethod
    def of(cls, options: Options, settings: RefinementSettings) -> RefinementOrder | None:
        """None if nothing is to be refined."""
        wanted = options.refine or settings.refine
        if wanted == "off":
            return None
        longest = settings.refine_seconds
        return cls(
            wanted,
            options.refine_camera,
            options.refine_distortion,
            options.refine_pixels or settings.refine_pixels,
            min(options.refine_seconds or longest, longest),
        )


@dataclass(frozen=True)
class Original:
    """What is known of one upright original: pixels, bytes and SHA-256 of its file, lens and focal
    length as `Photograph` has them."""

    height: int
    width: int
    bytes: int
    sha256: str
    lens: str | None
    focal: float | None


class Originals:
    """The originals of one scene on their way from the upload to where the job's input lies."""

    def __init__(self, files: Sequence[SentFile], decode: Callable[[int], Image.Image]) -> None:
        """`decode` gives a picture as 8-bit RGB, upright; it is asked only for what has to be
        encoded anew, or may raise for what is broken. Raises StorageFull, and what `decode`
        raises."""
        self._scratch: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - see close
        try:
            self.pictures = tuple(
                self._add(file, lambda index=index: decode(index))  # type: ignore[misc]
                for index, file in enumerate(files)
            )
        except OSError as error:
            self.close()
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise StorageFull("There is no room to keep the original pictures.") from None
        except BaseException:
            self.close()
            raise

    def save(self, folder: Path) -> None:
        """Write every picture into `folder` under the name of `original_file`. Raises OSError."""
        self._scratch.seek(0)
        for index, picture in enumerate(self.pictures):
            (folder / original_file(index)).write_bytes(self._scratch.read(picture.bytes))

    def close(self) -> None:
        """Release what they take on disk."""
        self._scratch.close()

    def _add(self, file: SentFile, decode: Callable[[], Image.Image]) -> Original:
        file.file.seek(0)
        with Image.open(file.file, formats=FORMATS) as header:
            lens, focal = _lens(header, header.size)
            size = header.size
            as_it_is = header.format == "JPEG" and header.mode == "RGB" and orientation(header) == 1
        if as_it_is:
            file.file.seek(0)
            encoded = file.file.read()
        else:
            upright = decode()
            size = upright.size
            buffer = io.BytesIO()
            upright.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
            encoded = buffer.getvalue()
        self._scratch.write(encoded)
        digest = hashlib.sha256(encoded).hexdigest()
        width, height = size
        return Original(height, width, len(encoded), digest, file.camera or lens, focal)


def focal_length(file: SentFile, size: tuple[int, int]) -> float | None:
    """The focal length in pixels of a picture of (width, height), if its EXIF data tell it."""
    with suppress(OSError, ValueError, SyntaxError):  # its decoder says what is wrong with a file
        file.file.seek(0)
        with Image.open(file.file, formats=FORMATS) as header:
            return _lens(header, size)[1]
    return None


def original_file(index: int) -> str:
    """The name of a picture's file in the folder of a job's input."""
    return f"picture_{index}.jpg"


def photographs(folder: Path, originals: Sequence[Original]) -> list[Photograph]:
    """The pictures that lie in the folder of a job's input, as the refinement reads them."""
    return [
        Photograph(
            folder / original_file(index),
            original.height,
            original.width,
            original.lens,
            original.focal,
        )
        for index, original in enumerate(originals)
    ]


def to_json(originals: Sequence[Original]) -> list[dict[str, Any]]:
    """Plain data for JSON; ``Original(**each)`` reads it again."""
    return [asdict(original) for original in originals]


def _lens(header: Image.Image, size: tuple[int, int]) -> tuple[str | None, float | None]:
    """Maker, model, focal length and digital zoom as one text, and the focal length in pixels, each
    None if EXIF does not tell.

    The 35 mm equivalent of a focal length sees the same diagonal on film of 36 x 24 mm (CIPA
    DCG-001).
    """
    found: dict[str, Any] = {}
    with suppress(Exception):  # whatever Pillow raises on damaged EXIF data, it tells nothing then
        exif = header.getexif()
        more = exif.get_ifd(ExifTags.IFD.Exif)
        found = {
            "maker": exif.get(ExifTags.Base.Make),
            "model": exif.get(ExifTags.Base.Model),
            "focal": more.get(ExifTags.Base.FocalLength),
            "film": more.get(ExifTags.Base.FocalLengthIn35mmFilm),
            "zoom": more.get(ExifTags.Base.DigitalZoomRatio),
        }
        if found["zoom"] in (0, 1):  # none was used
            del found["zoom"]
    focal = None
    with suppress(TypeError, ValueError, ZeroDivisionError):
        film = float(found["film"] or 0) if found else 0.0
        if 5 <= film <= 1000:
            focal = film * math.hypot(*size) / _FILM_DIAGONAL
    words = [str(value).strip("\0 ")[:_TEXT_LENGTH] for value in found.values() if value]
    known = bool(found.get("model")) and bool(found.get("focal") or found.get("film"))
    return (" ".join(words) if known else None), focal
