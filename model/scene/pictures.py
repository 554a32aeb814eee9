"""Any picture file to what the network is given: 8-bit RGB, upright, over white.

This is the only place that decides what a file's values mean; the service, calibration and
evaluation read pictures through it.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from model.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF")
"""What is read, by Pillow's names."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif")
"""What counts as a picture in a folder, in upper or lower case."""

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

Bytes = NDArray[np.uint8]


def open_image(source: Source, index: int = 0) -> Image.Image:
    """The picture as 8-bit RGB, upright, over white. Raises ImageError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if isinstance(source, Image.Image):
                return over_white(upright(source))
            with Image.open(source, formats=FORMATS) as picture:
                return over_white(upright(picture))
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
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise ImageError(f"picture {index} cannot be decoded: {error}", index) from error


def upright(picture: Image.Image) -> Image.Image:
    """`picture`, which may not be decoded yet, as 8-bit RGB or, where anything in it can be
    transparent, RGBA, with its EXIF orientation applied.

    A value of 16 bits becomes value / 257, rounded: the full range of one is that of the other
    (PNG specification, 13.12). Samples of fewer significant bits (sBIT) are scaled to the full
    range in the file itself (12.4), so they need nothing else. Raises ValueError for values that
    have no such range, and what Pillow raises.
    """
    pixels = _eight_bits(picture)
    pixels.info = {name: value for name, value in picture.info.items() if name != "transparency"}
    return ImageOps.exif_transpose(pixels)


def over_white(picture: Image.Image) -> Image.Image:
    """An RGB or RGBA picture as RGB, what is transparent over white."""
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    if picture.mode in ("I", "F"):
        raise ValueError(f"its values have 32 bits (mode {picture.mode}); expected 8 or 16")
    tiles = getattr(picture, "tile", None)
    stored_as = tiles[0].args if tiles else None
    clear = picture.info.get("transparency")
    if picture.format == "PNG" and stored_as in _HIGH_AND_LOW:
        return _from_two_bytes(*_two_bytes(picture, stored_as), clear)
    if picture.mode.startswith("I;16"):
        values = np.asarray(picture).astype(np.uint16)[..., None]
        high, low = (values >> 8).astype(np.uint8), (values & 255).astype(np.uint8)
        return _from_two_bytes(high, low, None if clear is None else (clear,))
    picture.load()
    if stored_as in _GREY_STEPS and clear is not None:
        picture.info["transparency"] = clear * _GREY_STEPS[stored_as]
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def _two_bytes(picture: Image.Image, stored_as: str) -> tuple[Bytes, Bytes]:
    """High and low bytes [h, w, channels] of a PNG of 16-bit colours that is not decoded yet."""
    first, second = _HIGH_AND_LOW[stored_as]
    if second is None:
        grey_and_alpha = _decoded_as(picture, first)
        return grey_and_alpha[..., 0::2], grey_and_alpha[..., 1::2]
    file = picture.fp  # type: ignore[attr-defined]
    begin = file.tell()
    file.seek(0)
    with Image.open(file, formats=("PNG",)) as again:
        low = _decoded_as(again, second)
        file.seek(begin)
        return _decoded_as(picture, first), low


def _decoded_as(picture: Image.Image, rawmode: str) -> Bytes:
    picture._mode = rawmode.partition(";")[0]
    picture.tile = [tile._replace(args=rawmode) for tile in picture.tile]  # type: ignore[attr-defined]
    return np.asarray(picture)


def _from_two_bytes(high: Bytes, low: Bytes, clear: tuple[int, ...] | None) -> Image.Image:
    """RGB or RGBA from values `256 * high + low`, [h, w, channels]: grey, grey and alpha, RGB or
    RGBA. Pixels of exactly the value `clear` are transparent."""
    pixels = high.copy()  # differs from value / 257, rounded, by at most 1
    pixels += (high < 127) & (low > high + np.uint8(128))
    pixels -= (high > 128) & (low < high - np.uint8(128))
    channels = list(np.moveaxis(pixels, -1, 0))
    if clear is not None:
        clear_high, clear_low = (np.array(clear) >> 8), (np.array(clear) & 255)
        seen = ((high != clear_high) | (low != clear_low)).any(-1)
        channels.append(np.where(seen, np.uint8(255), np.uint8(0)))
    if len(channels) < 3:
        channels = [channels[0]] * 3 + channels[1:]
    return Image.fromarray(np.stack(channels, axis=-1))
