"""Picture files to decoded pictures, given one at a time, with every limit checked on all headers
first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import overload

from PIL import Image, UnidentifiedImageError

from model.scene.pictures import FORMATS, over_white
from service.errors import BrokenPicture, TooManyPixels, UnsupportedPicture
from service.inputs.body import SentFile
from service.inputs.decoding import Decoder, Decoding, DecodingError, decoder
from service.inputs.signatures import kind_of
from service.settings import Limits

_AT_ONCE = 2
_PIXELS_AT_ONCE = 16_000_000  # of the largest picture; larger ones would take much memory


class DecodedPictures(Sequence[Image.Image]):
    """Decodes a picture each time it is asked for and keeps none, so memory holds one, and the next
    one or two while they are being decoded, whatever their number.

    Pictures are 8-bit RGB, upright, over white. The constructor checks every header; both it and
    decoding raise UnsupportedPicture, BrokenPicture or TooManyPixels, naming the picture. To be
    closed.
    """

    def __init__(self, files: Sequence[SentFile], limits: Limits) -> None:
        self.files = files
        self.limits = limits
        self.decode_seconds = 0.0
        pixels: list[int] = []
        total = 0
        for index, file in enumerate(files):
            with opened(file, index, limits) as image:
                pixels.append(image.width * image.height)
            total += pixels[-1]
            if total > limits.max_total_pixels:
                limit = limits.max_total_pixels
                raise TooManyPixels(
                    f"The pictures have more than {limit} pixels together.", max_total_pixels=limit
                )
        self._pixels = pixels
        at_once = _AT_ONCE if max(pixels) <= _PIXELS_AT_ONCE else 1
        self._decodings = [Decoding(decoder, pixels) for _ in range(at_once)]
        self._next = 0  # of those that were not asked for yet
        self._begun = 0  # how many were begun before they were asked for

    def __len__(self) -> int:
        return len(self.files)

    @property
    def megapixels(self) -> float:
        """Of all of them, as their headers say."""
        return sum(self._pixels) / 1e6

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image.Image]: ...
    def __getitem__(self, index: int | slice) -> Image.Image | Sequence[Image.Image]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        file = self.files[index]
        started = time.perf_counter()
        # opened anew: a container may hold another picture than its header says
        picture = opened(file, index, self.limits)
        if index == self._next:  # they are asked for in order, as far as anybody knows
            self._begin_until(index + len(self._decodings))
        image = over_white(decoded(picture, file, index, self._by(index)))
        if index == self._next:
            self._next += 1
            self._begin_until(self._next + len(self._decodings))
        self.decode_seconds += time.perf_counter() - started
        return image

    def close(self) -> None:
        """Let the processes end that decode them."""
        for decoding in self._decodings:
            decoding.close()

    def _begin_until(self, end: int) -> None:
        """Have those before `end` decoded, each as soon as the one before it was fetched."""
        for index in range(self._begun, min(end, len(self))):
            with suppress(DecodingError):  # it is tried again when it is asked for
                self._by(index).begin(self.files[index].file, self._pixels[index])
        self._begun = max(self._begun, min(end, len(self)))

    def _by(self, index: int) -> Decoding:
        return self._decodings[index % len(self._decodings)]


def opened(file: SentFile, index: int, limits: Limits) -> Image.Image:
    """A picture whose header is read and within the limits."""
    image = _open(file, index, limits)
    pixels = image.width * image.height
    if pixels > limits.max_pixels:
        raise _too_many_pixels(file, index, limits, f"{image.width} x {image.height} = {pixels}")
    return image


def decoded(
    image: Image.Image,
    file: SentFile,
    index: int,
    by: Decoder | Decoding = decoder,
    mask: bool = False,
) -> Image.Image:
    """An opened picture, or a `mask`, as 8-bit RGB, or RGBA if it has transparency, upright."""
    try:
        return by.decode(file.file, image.width * image.height, mask)
    except DecodingError as error:
        raise _broken(file, index, str(error)) from None


def _open(file: SentFile, index: int, limits: Limits) -> Image.Image:
    file.file.seek(0)
    if not file.file.read(1):
        raise _broken(file, index, "it is empty")
    file.file.seek(0)
    try:
        return Image.open(file.file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(file, index, limits, "too many") from None
    except UnidentifiedImageError:
        file.file.seek(0)
        if kind_of(file.file) == "picture":
            raise _broken(file, index, "its header can't be read") from None
        raise UnsupportedPicture(
            f"{file.name} is not a JPEG, PNG, WebP, HEIC or AVIF picture; convert it to one, or "
            "send a zip of pictures, or a video (MP4, QuickTime, Matroska, WebM or AVI).",
            index=index,
            filename=file.name,
            formats=list(FORMATS),
        ) from None
    except Exception as error:  # as above: damaged headers surface as many types
        raise _broken(file, index, str(error)) from None


def _broken(file: SentFile, index: int, reason: str) -> BrokenPicture:
    reason = " ".join(reason.split()).rstrip(".")  # some libraries end theirs with a line
    return BrokenPicture(
        f"{file.name} can't be decoded: {reason}.", index=index, filename=file.name
    )


def _too_many_pixels(file: SentFile, index: int, limits: Limits, given: str) -> TooManyPixels:
    return TooManyPixels(
        f"{file.name} has {given} pixels; at most {limits.max_pixels} are accepted.",
        index=index,
        filename=file.name,
        max_pixels=limits.max_pixels,
    )
