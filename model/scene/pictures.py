"""Any picture file to what the network is given: 8-bit RGB, upright, over white.

This is the only place that decides what a file's values mean; the service, calibration and
evaluation read pictures through it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from model.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF")
"""What is read, by Pillow's names, in the order in which decoders are tried: HEIF's takes an AVIF
picture with the brand of both, and can't decode it."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif")
"""What counts as a picture in a folder, in upper or lower case."""
SYSTEM_FOLDERS = (
    "__MACOSX", "@eaDir", "@Recycle", "@__thumb", "#recycle", "$RECYCLE.BIN",
    "System Volume Information",
)  # fmt: skip
"""What systems leave among pictures: copies of them, and what was thrown away."""

Source = str | Path | IO[bytes] | Image.Image

pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)

# Pillow decodes PNG's 16-bit colours to their high bytes only. Read in the other byte order, the
# same decoder gives the low bytes. Grey with alpha has four bytes a pixel, which fit into RGBA.
_HIGH_AND_LOW = {
    "RGB;16B": ("RGB;16B", "RGB;16L"),
    "RGBA;16B": ("RGBA;16B", "RGBA;16L"),
    "LA;16B": ("RGBA", None),
}
_GREY_STEPS = {"L;2": 85, "L;4": 17}  # Pillow scales these greys to 8 bits, but not tRNS

_ROWS = 256  # 16-bit pictures are reduced to 8 bits so many rows at a time

Bytes = NDArray[np.uint8]
Box = tuple[int, int, int, int]
ReadBytes = Callable[[Box], tuple[Bytes, Bytes]]
"""Gives the high and the low bytes [h, w, channels] of the values in a box of a picture."""


def open_image(source: Source, index: int = 0, opaque_palettes: bool = False) -> Image.Image:
    """The picture as 8-bit RGB, upright, over white. Raises ImageError.

    `opaque_palettes`: leave out the transparency of palettes, as VGGT's public preprocessing does.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if isinstance(source, Image.Image):
                own = source.copy() if source.mode == "P" else source  # the caller's stays as it is
                return _opened(own, opaque_palettes)
            with Image.open(source, formats=FORMATS) as picture:
                return _opened(picture, opaque_palettes)
    except FileNotFoundError as error:
        raise ImageError(f"picture {index}: no such file: {error.filename}", index) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"picture {index} is not a picture in a format that can be read", index
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"picture {index} has too many pixels to be decoded safely: {error}", index
        ) from error
    except (OSError, ValueError, SyntaxError, EOFError, RuntimeError) as error:
        raise ImageError(f"picture {index} cannot be decoded: {error}", index) from error


def _opened(picture: Image.Image, opaque_palettes: bool) -> Image.Image:
    if opaque_palettes and picture.mode == "P":
        picture.info.pop("transparency", None)
    return over_white(upright(picture))


def upright(picture: Image.Image, mask: bool = False) -> Image.Image:
    """`picture`, which may not be decoded yet, as 8-bit RGB or, where anything in it can be
    transparent, RGBA, with its EXIF orientation applied.

    A value of 16 bits becomes value / 257, rounded: the full range of one is that of the other
    (PNG specification, 13.12). Samples of fewer significant bits (sBIT) are scaled to the full
    range in the file itself (12.4), so they need nothing else. In a `mask` only 0 becomes 0, since
    some use 0 and 1 of 16 bits. Raises ValueError for values that have no such range, and what
    Pillow raises.
    """
    pixels = _eight_bits(picture, mask)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation(picture) or 1
    pixels.info = {"exif": exif.tobytes()}  # all that counts from here on
    return ImageOps.exif_transpose(pixels)


def orientation(picture: Image.Image) -> int | None:
    """How its EXIF data say that the picture lies (EXIF 2.32, 4.6.4), from 1 to 8; 1 where they say
    nothing, None where they are damaged."""
    try:
        found = picture.getexif().get(ExifTags.Base.Orientation, 1)
        return int(found) if found in range(1, 9) else None
    except Exception:  # Pillow's, of many types
        return None


def over_white(picture: Image.Image) -> Image.Image:
    """An RGB or RGBA picture as RGB, what is transparent over white."""
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _eight_bits(picture: Image.Image, mask: bool) -> Image.Image:
    if picture.mode in ("I", "F"):
        raise ValueError(f"its values have 32 bits (mode {picture.mode}); expected 8 or 16")
    tiles = getattr(picture, "tile", None)
    stored_as = tiles[0].args if tiles else None
    clear = picture.info.get("transparency")
    if picture.format == "PNG" and stored_as in _HIGH_AND_LOW:
        return _from_two_bytes(picture.size, _bytes_of_png(picture, stored_as), clear, mask)
    if picture.mode.startswith("I;16"):
        one = None if clear is None else (clear,)
        return _from_two_bytes(picture.size, partial(_bytes_of_grey, picture), one, mask)
    picture.load()
    if stored_as in _GREY_STEPS and clear is not None:
        picture.info["transparency"] = clear * _GREY_STEPS[stored_as]
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def _bytes_of_grey(picture: Image.Image, box: Box) -> tuple[Bytes, Bytes]:
    values = np.asarray(picture.crop(box)).astype(np.uint16)[..., None]
    return (values >> 8).astype(np.uint8), (values & 255).astype(np.uint8)


def _bytes_of_png(picture: Image.Image, stored_as: str) -> ReadBytes:
    """Reads a PNG of 16-bit colours that is not decoded yet."""
    first, second = _HIGH_AND_LOW[stored_as]
    if second is None:
        both = _decoded_as(picture, first)

        def read_both(box: Box) -> tuple[Bytes, Bytes]:
            grey_and_alpha = np.asarray(both.crop(box))
            return grey_and_alpha[..., 0::2], grey_and_alpha[..., 1::2]

        return read_both
    file = picture.fp  # type: ignore[attr-defined]
    begin = file.tell()
    file.seek(0)
    low = _decoded_as(Image.open(file, formats=("PNG",)), second)
    file.seek(begin)
    high = _decoded_as(picture, first)
    return lambda box: (np.asarray(high.crop(box)), np.asarray(low.crop(box)))


def _decoded_as(picture: Image.Image, rawmode: str) -> Image.Image:
    picture._mode = rawmode.partition(";")[0]
    picture.tile = [tile._replace(args=rawmode) for tile in picture.tile]  # type: ignore[attr-defined]
    picture.load()
    return picture


def _from_two_bytes(
    size: tuple[int, int], read: ReadBytes, clear: tuple[int, ...] | None, mask: bool
) -> Image.Image:
    """RGB or RGBA from 16-bit values, some rows at a time. Pixels of the value `clear` are
    transparent."""
    width, height = size
    found = None
    for top in range(0, height, _ROWS):
        high, low = read((0, top, width, min(top + _ROWS, height)))
        block = Image.fromarray(_rounded(high, low, clear, mask))
        if found is None:
            found = Image.new(block.mode, size)
        found.paste(block, (0, top))
    assert found is not None
    return found


def _rounded(high: Bytes, low: Bytes, clear: tuple[int, ...] | None, mask: bool) -> Bytes:
    """Values `256 * high + low`, [h, w, channels] of grey, grey and alpha, RGB or RGBA, divided by
    257 and rounded, as RGB or RGBA. In a `mask` only 0 becomes 0."""
    pixels = high.copy()  # differs from the quotient by at most 1
    pixels += (high < 127) & (low > high + np.uint8(128))
    pixels -= (high > 128) & (low < high - np.uint8(128))
    if mask:
        np.maximum(pixels, (high | low) > 0, out=pixels)
    channels = list(np.moveaxis(pixels, -1, 0))
    if clear is not None:
        clear_high, clear_low = np.array(clear) >> 8, np.array(clear) & 255
        seen = ((high != clear_high) | (low != clear_low)).any(-1)
        channels.append(np.where(seen, np.uint8(255), np.uint8(0)))
    if len(channels) < 3:
        channels = [channels[0]] * 3 + channels[1:]
    return np.stack(channels, axis=-1)
