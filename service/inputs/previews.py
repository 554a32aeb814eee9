"""Pictures as they are shown with their result, where no originals are kept: files of at most
`PREVIEW_SIDE` pixels a side."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.scene.pictures import FORMATS, orientation
from service.inputs.body import SentFile
from service.inputs.pictures import DecodedPictures
from service.inputs.scratch import Scratch
from service.result.scene import PREVIEW_SIDE

_QUALITY = 88
_BYTES_KEPT = 512 * 1024  # a larger file is encoded anew
_TURNING_PNG = (b"eXIf", b"Raw profile", b"tiff:Orientation")  # where a PNG states its orientation


class PreviewedPictures(Sequence[Image.Image]):
    """Decoded pictures, each of which leaves a preview in `scratch` when it is first asked for."""

    def __init__(self, pictures: DecodedPictures, scratch: Scratch) -> None:
        self._pictures = pictures
        self._scratch = scratch
        self._places: dict[int, slice] = {}

    @property
    def previews(self) -> tuple[NDArray[np.uint8], ...]:
        """JPEG or PNG files of the pictures that were asked for, in their order, mapped."""
        content = self._scratch.mapped()
        return tuple(content[self._places[index]] for index in sorted(self._places))

    def __len__(self) -> int:
        return len(self._pictures)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image.Image]: ...
    def __getitem__(self, index: int | slice) -> Image.Image | Sequence[Image.Image]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        picture = self._pictures[index]
        if index not in self._places:
            content = _preview(picture, self._pictures.files[index])
            self._places[index] = self._scratch.add(content)
        return picture


def _preview(picture: Image.Image, file: SentFile) -> bytes:
    """The file itself if it can be shown as it is, else a smaller JPEG of the decoded picture."""
    if max(picture.size) <= PREVIEW_SIDE:
        file.file.seek(0)
        content = file.file.read(_BYTES_KEPT + 1)
        if len(content) <= _BYTES_KEPT and _shown_as_it_is(content):
            return content
    smaller = picture.copy()
    smaller.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), reducing_gap=2)
    buffer = io.BytesIO()
    smaller.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _shown_as_it_is(content: bytes) -> bool:
    """Whether every browser shows this file as we decode it: an RGB JPEG or PNG that nothing turns.

    Pillow would decode a whole PNG to find its orientation, so one that may state any is not it.
    """
    with Image.open(io.BytesIO(content), formats=FORMATS) as header:
        if header.mode != "RGB":
            return False
        if header.format == "PNG":
            return not any(word in content for word in _TURNING_PNG)
        return header.format == "JPEG" and orientation(header) == 1
