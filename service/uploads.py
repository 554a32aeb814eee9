"""A request body to decoded pictures, with every limit enforced before the work that it bounds.

The body is parsed here rather than by FastAPI's form parameters, which would spool any number of bytes to disk
before the first line of ours runs. Content-Length is only a reason to refuse early: bytes are counted as they
arrive. File names are echoed, never used as paths; the type of a picture is read from its bytes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from service.problems import (
    BrokenPicture,
    InvalidOption,
    MalformedBody,
    NoPictures,
    TooManyBytes,
    TooManyPictures,
    TooManyPixels,
    UnsupportedBody,
    UnsupportedPicture,
    UploadTimeout,
)
from service.settings import Settings

PICTURE_FIELDS = ("images", "files")
OPTION_FIELDS = ("mode",)
FORMATS = ("JPEG", "PNG", "WEBP")

_MAGIC = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP", re.DOTALL)
_NAME_LENGTH = 120
_OPTION_BYTES = 1024
_LINGER_SECONDS = 1.0


@dataclass(frozen=True)
class PictureFile:
    """One picture as it was sent: its name, cleaned for display, and its bytes as an open binary file."""

    name: str
    file: BinaryIO


@dataclass(frozen=True)
class Upload:
    """One parsed form: the pictures in the order in which they were sent, and the other fields."""

    pictures: tuple[PictureFile, ...]
    options: dict[str, str]


class Body:
    """The bytes of a request as they arrive, readable on after a reader has given up."""

    def __init__(self, request: Request) -> None:
        self.headers = request.headers
        self._receive = request.receive
        self._begun = False
        self._ended = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """What has not been read yet. Raises ClientDisconnect."""
        while not self._ended:
            self._begun = True
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self._ended = not message.get("more_body", False)
            yield message.get("body", b"")

    async def linger(self) -> None:
        """Before a refusal: read on for a moment and forget what comes.

        A connection that the client wants closed resets on unread data, and the client never sees the answer.
        """
        if not self._begun and "expect" in self.headers:
            return  # the client waits for our word before it sends anything
        with suppress(asyncio.TimeoutError, ClientDisconnect):
            await asyncio.wait_for(self._drain(), _LINGER_SECONDS)

    async def _drain(self) -> None:
        async for _ in self.chunks():
            pass


@asynccontextmanager
async def receive(body: Body, settings: Settings) -> AsyncIterator[Upload]:
    """The form in `body`; its spooled files are closed, and so removed, when the context ends.

    Raises a Problem for a body that is malformed, too large, too slow or without pictures, and ClientDisconnect
    if the client goes away.
    """
    try:
        files, options = await asyncio.wait_for(_parse(body, settings), settings.upload_timeout)
    except asyncio.TimeoutError:  # another class than TimeoutError on Python 3.10
        raise UploadTimeout(
            f"The body did not arrive within {settings.upload_timeout:g} seconds.",
            upload_timeout=settings.upload_timeout,
        ) from None
    try:
        yield Upload(
            tuple(PictureFile(display_name(file.filename, i), file.file) for i, file in enumerate(files)), options
        )
    finally:
        for file in files:
            file.file.close()


async def _parse(body: Body, settings: Settings) -> tuple[list[UploadFile], dict[str, str]]:
    content_type = body.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise UnsupportedBody(
            f"The body is {content_type.partition(';')[0] or 'of no stated type'}; "
            "send multipart/form-data with one file part named images per picture."
        )
    with suppress(ValueError):  # a Content-Length that is no number is the server's to refuse
        _check_total(int(body.headers.get("content-length", "0")), settings)
    parser = _Parser(body, settings)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise MalformedBody(f"The multipart body can't be read: {error.message}") from None
    files: list[UploadFile] = []
    options: dict[str, str] = {}
    try:
        for field, value in form.multi_items():
            if isinstance(value, UploadFile) and field in PICTURE_FIELDS:
                files.append(value)
            elif isinstance(value, str) and field in OPTION_FIELDS:
                options[field] = value
            else:
                kind = "file" if isinstance(value, UploadFile) else "text"
                raise InvalidOption(
                    f"The form has a {kind} field {field[:_NAME_LENGTH]!r}; "
                    f"pictures are file parts named images, and the only option is {OPTION_FIELDS[0]}."
                )
        if not files:
            raise NoPictures("The form has no pictures; add one file part named images per picture.")
        if len(files) > settings.max_images:
            raise _too_many_pictures(settings)
    except BaseException:
        await form.close()
        raise
    return files, options


class _Parser(MultiPartParser):
    """Starlette's parser, which spools files to unnamed temporary files, with our limits while it reads."""

    def __init__(self, body: Body, settings: Settings) -> None:
        super().__init__(body.headers, self._counted(body), max_part_size=_OPTION_BYTES)
        self.settings = settings
        self.complete = False
        self._parts = 0
        self._part_bytes = 0

    async def _counted(self, body: Body) -> AsyncGenerator[bytes, None]:
        total = 0
        async for chunk in body.chunks():
            total += len(chunk)
            _check_total(total, self.settings)
            yield chunk
        if not self.complete:  # raised here, the parser closes its files
            raise MalformedBody("The multipart body ends before its closing boundary.")

    def on_part_begin(self) -> None:
        self._parts += 1
        self._part_bytes = 0
        if self._parts > self.settings.max_images + len(OPTION_FIELDS):
            raise _too_many_pictures(self.settings)
        super().on_part_begin()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._part_bytes += end - start
        limit = self.settings.max_image_bytes
        if self._part_bytes > limit:
            raise TooManyBytes(f"A picture has more than {limit} bytes.", max_image_bytes=limit)
        super().on_part_data(data, start, end)

    def on_end(self) -> None:
        self.complete = True


def _check_total(total: int, settings: Settings) -> None:
    limit = settings.max_total_bytes
    if total > limit:
        raise TooManyBytes(f"The request body has more than {limit} bytes.", max_total_bytes=limit)


def _too_many_pictures(settings: Settings) -> TooManyPictures:
    limit = settings.max_images
    return TooManyPictures(f"More than {limit} pictures were sent.", max_images=limit)


def display_name(name: str | None, index: int) -> str:
    """A file name fit to be echoed: its last path component without control characters, of bounded length."""
    last = re.split(r"[/\\]", name or "")[-1]
    printable = "".join(character for character in last if character.isprintable()).strip()
    return printable[-_NAME_LENGTH:] or f"picture-{index}"


def decode_pictures(pictures: Sequence[PictureFile], settings: Settings) -> list[Image.Image]:
    """Decode JPEG, PNG and WebP files, not yet rotated: their EXIF data stays with them.

    The sizes of all headers are checked before the first pixel is decoded. Raises UnsupportedPicture,
    BrokenPicture or TooManyPixels, naming the picture.
    """
    opened: list[Image.Image] = []
    total = 0
    for index, picture in enumerate(pictures):
        image = _open(picture, index, settings)
        pixels = image.width * image.height
        if pixels > settings.max_pixels:
            raise _too_many_pixels(picture, index, settings, f"{image.width} x {image.height} = {pixels}")
        total += pixels
        if total > settings.max_total_pixels:
            limit = settings.max_total_pixels
            raise TooManyPixels(f"The pictures have more than {limit} pixels together.", max_total_pixels=limit)
        opened.append(image)
    for index, (image, picture) in enumerate(zip(opened, pictures, strict=True)):
        try:
            image.load()
        except Exception as error:  # Pillow's decoders raise a dozen unrelated types on damaged data
            raise _broken(picture, index, str(error)) from None
    return opened


def _open(picture: PictureFile, index: int, settings: Settings) -> Image.Image:
    start = picture.file.read(12)
    picture.file.seek(0)
    if not start:
        raise _broken(picture, index, "it is empty")
    try:
        return Image.open(picture.file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(picture, index, settings, "too many") from None
    except UnidentifiedImageError:
        if _MAGIC.match(start):
            raise _broken(picture, index, "its header can't be read") from None
        raise UnsupportedPicture(
            f"{picture.name} is not a JPEG, PNG or WebP picture.",
            index=index,
            filename=picture.name,
            formats=list(FORMATS),
        ) from None
    except Exception as error:  # as above: damaged headers surface as many types
        raise _broken(picture, index, str(error)) from None


def _broken(picture: PictureFile, index: int, reason: str) -> BrokenPicture:
    return BrokenPicture(f"{picture.name} can't be decoded: {reason}.", index=index, filename=picture.name)


def _too_many_pixels(picture: PictureFile, index: int, settings: Settings, given: str) -> TooManyPixels:
    return TooManyPixels(
        f"{picture.name} has {given} pixels; at most {settings.max_pixels} are accepted.",
        index=index,
        filename=picture.name,
        max_pixels=settings.max_pixels,
    )
