"""A request body to files and options, with every limit enforced while it arrives.

The body is parsed here rather than by FastAPI's form parameters, which would spool any number of
bytes to disk before the first line of ours runs. Content-Length is only a reason to refuse early:
bytes are counted as they arrive. File names are echoed, never used as paths.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, Protocol, TypeVar
from urllib.parse import unquote_to_bytes

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from service.errors import (
    InvalidOption,
    MalformedBody,
    NoPictures,
    StorageFull,
    TooManyBytes,
    TooManyPictures,
    UnsupportedBody,
    UploadTimeout,
    URLsOff,
)
from service.inputs.names import display_name
from service.inputs.options import Options
from service.settings import Limits

T = TypeVar("T")

PICTURE_FIELDS = ("images", "files")
CONTAINER_FIELDS = ("archive", "video")
URL_FIELD = "urls"
UPLOAD_FIELD = "upload"
MASK_FIELD = "masks"

_NAME_LENGTH = 120  # of a field that is repeated to the client
_OPTION_BYTES = 2**20
_TEXT_BYTES = 16 * 2**20  # of all URLs and options together, which stay in memory
_LONG_FILENAME = re.compile(rb";\s*filename\*\s*=\s*\"?([\w-]*)'[^']*'([^;\"]*)", re.IGNORECASE)
_LINGER_SECONDS = 1.0


@dataclass(frozen=True)
class SentFile:
    """One file as it was sent: its name, cleaned for display, and its bytes as an open binary
    file. Frames of one video have the same `camera`."""

    name: str
    file: BinaryIO
    camera: str | None = None


@dataclass(frozen=True)
class Upload:
    """One parsed form: pictures, archives and videos, sent or fetched, in the order of the form,
    masks, and text."""

    files: tuple[SentFile, ...]
    masks: tuple[SentFile, ...]
    options: dict[str, str]


class Fetcher(Protocol):
    """Brings what URLs name; see `service.inputs.remote.fetcher`."""

    async def fetch(self, urls: Mapping[int, str], spent: int) -> dict[int, UploadFile]: ...


OpenUpload = Callable[[str], UploadFile]
"""Opens a file that was sent before, by its id. Raises InvalidOption."""


class Body:
    """The bytes of a request as they arrive, readable on after a reader has given up."""

    def __init__(self, request: Request) -> None:
        self.headers = request.headers
        self._receive = request.receive
        self._begun = False
        self._ended = asyncio.Event()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """What has not been read yet. Raises ClientDisconnect."""
        while not self._ended.is_set():
            self._begun = True
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            if not message.get("more_body", False):
                self._ended.set()
            yield message.get("body", b"")

    async def linger(self) -> None:
        """Before a refusal: read on for a moment and forget what comes.

        A connection that the client wants closed resets on unread data, and the client never sees
        the answer.
        """
        if not self._begun and "expect" in self.headers:
            return  # the client waits for our word before it sends anything
        with suppress(asyncio.TimeoutError, ClientDisconnect):
            await asyncio.wait_for(self._drain(), _LINGER_SECONDS)

    async def unless_gone(self, work: Awaitable[T]) -> T:
        """The result of `work`; if the client goes away first, cancel it and raise
        ClientDisconnect.

        That is noticed once the body is read to its end; before, whoever reads it notices.
        """
        task: asyncio.Future[T] = asyncio.ensure_future(work)
        gone = asyncio.create_task(self._gone())
        both: set[asyncio.Future] = {task, gone}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ClientDisconnect
        finally:
            gone.cancel()
            task.cancel()
            await asyncio.wait(both)  # what it had open is closed

    async def _drain(self) -> None:
        async for _ in self.chunks():
            pass

    async def _gone(self) -> None:
        await self._ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


@asynccontextmanager
async def receive(
    body: Body, limits: Limits, fetcher: Fetcher | None = None, uploads: OpenUpload | None = None
) -> AsyncIterator[Upload]:
    """The form in `body`, its URLs fetched and its uploads opened; spooled files are closed, and so
    removed, when the context ends.

    Raises a ServiceError for a body that is malformed, too large, too slow or without pictures, for
    a URL that is refused or gives nothing, and ClientDisconnect if the client goes away.
    """
    try:
        form = await asyncio.wait_for(_parse(body, limits, fetcher, uploads), limits.upload_timeout)
    except asyncio.TimeoutError:  # another class than TimeoutError on Python 3.10
        raise UploadTimeout(
            f"The body, and what its URLs name, did not arrive within {limits.upload_timeout:g} "
            "seconds.",
            upload_timeout=limits.upload_timeout,
        ) from None
    try:
        yield form.upload()
    finally:
        form.close()


@asynccontextmanager
async def fetched(urls: Sequence[str], limits: Limits, fetcher: Fetcher) -> AsyncIterator[Upload]:
    """As `receive`, for a form that has nothing but these URLs."""
    with _readable():
        fetching = fetcher.fetch(dict(enumerate(urls)), 0)
        try:
            files = await asyncio.wait_for(fetching, limits.upload_timeout)
        except asyncio.TimeoutError:
            raise UploadTimeout(
                f"What the URLs name did not arrive within {limits.upload_timeout:g} seconds.",
                upload_timeout=limits.upload_timeout,
            ) from None
    form = _Form(list(files.values()), [], {})
    try:
        yield form.upload()
    finally:
        form.close()


@dataclass
class _Form:
    files: list[UploadFile]
    masks: list[UploadFile]
    options: dict[str, str]

    def upload(self) -> Upload:
        files, masks = (
            tuple(SentFile(display_name(part.filename, i), part.file) for i, part in enumerate(of))
            for of in (self.files, self.masks)
        )
        return Upload(files, masks, self.options)

    def close(self) -> None:
        for part in (*self.files, *self.masks):
            part.file.close()


async def _parse(
    body: Body, limits: Limits, fetcher: Fetcher | None, uploads: OpenUpload | None
) -> _Form:
    content_type = body.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise UnsupportedBody(
            f"The body is {content_type.partition(';')[0] or 'of no stated type'}; "
            "send multipart/form-data with one file part named images per picture."
        )
    with suppress(ValueError):  # a Content-Length that is no number is the server's to refuse
        _check_total(int(body.headers.get("content-length", "0")), limits)
    parser = _Parser(body, limits)
    with _readable():
        fields = await parser.parse()
    form = _Form([], [], {})
    urls: dict[int, str] = {}
    spent = parser.total
    try:
        for field, value in fields.multi_items():
            if isinstance(value, UploadFile) and field in (*PICTURE_FIELDS, *CONTAINER_FIELDS):
                form.files.append(value)
            elif isinstance(value, str) and field == URL_FIELD:
                urls[len(form.files) + len(urls)] = value
            elif isinstance(value, str) and field == UPLOAD_FIELD:
                if uploads is None:
                    raise InvalidOption(
                        "upload: this service takes no files before the request. Send them in the "
                        "form, or have it run with --upload-bytes.",
                        option=UPLOAD_FIELD,
                    )
                if len(form.files) >= limits.max_images:
                    raise too_many_pictures(limits)
                form.files.append(uploads(value))
                spent += form.files[-1].size or 0
                _check_total(spent, limits)
            elif isinstance(value, UploadFile) and field == MASK_FIELD:
                form.masks.append(value)
            elif (
                isinstance(value, str)
                and field in Options.model_fields
                and field not in form.options
            ):
                form.options[field] = value
            else:
                raise _unexpected(field, value, again=field in form.options)
        if not form.files and not urls:
            raise NoPictures(
                "The form has no pictures; add one file part named images per picture."
            )
        if len(form.files) + len(urls) > limits.max_images:
            raise too_many_pictures(limits)
        if urls and fetcher is None:
            raise URLsOff(
                "This service fetches nothing by URL; send the pictures themselves, as parts named "
                "images."
            )
        if urls and fetcher is not None:
            with _readable():
                fetched = await fetcher.fetch(urls, spent)
            # in rising order, so each lands where the form has it
            for index, file in fetched.items():
                form.files.insert(index, file)
    except BaseException:
        form.close()
        await fields.close()
        raise
    return form


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except MultiPartException as error:
        raise MalformedBody(f"The multipart body can't be read: {error.message}") from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise StorageFull("There is no room to take in the upload.") from None


def _unexpected(field: str, value: UploadFile | str, *, again: bool) -> InvalidOption:
    kind = "file" if isinstance(value, UploadFile) else "text"
    if again:
        return InvalidOption(f"The form has the option {field} more than once.", option=field)
    return InvalidOption(
        f"The form has a {kind} field {field[:_NAME_LENGTH]!r}; pictures are file parts named "
        "images, archive, video "
        "or masks, or text parts named urls or upload, and the text options are "
        f"{', '.join(Options.model_fields)}.",
        option=field[:_NAME_LENGTH],
    )


class _Parser(MultiPartParser):
    """Starlette's parser, which spools files to unnamed temporary files, with our limits while it
    reads."""

    spool_max_size = 2**16  # of each file in memory, which there may be thousands of

    def __init__(self, body: Body, limits: Limits) -> None:
        super().__init__(
            body.headers,
            self._counted(body),
            max_files=1_000_000,
            max_fields=1_000_000,
            max_part_size=_OPTION_BYTES,
        )
        self.limits = limits
        self.complete = False
        self.total = 0  # bytes of the body so far
        self._parts = 0
        self._part_bytes = 0
        self._text_bytes = 0

    async def _counted(self, body: Body) -> AsyncGenerator[bytes, None]:
        async for chunk in body.chunks():
            self.total += len(chunk)
            _check_total(self.total, self.limits)
            yield chunk
        if not self.complete:  # raised here, the parser closes its files
            raise MalformedBody("The multipart body ends before its closing boundary.")

    def on_part_begin(self) -> None:
        self._parts += 1
        self._part_bytes = 0
        # as many pictures, as many masks, and every option once
        if self._parts > 2 * self.limits.max_images + len(Options.model_fields):
            raise too_many_pictures(self.limits)
        self._charset = "utf-8"  # not what the header asks for: some codecs are slow, some raise
        super().on_part_begin()

    def on_headers_finished(self) -> None:
        part = self._current_part
        part.content_disposition = _with_plain_filename(part.content_disposition)
        super().on_headers_finished()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._part_bytes += end - start
        part = self._current_part
        if part.file is None:
            if self._part_bytes > _OPTION_BYTES:
                raise TooManyBytes(
                    f"An option has more than {_OPTION_BYTES} bytes.",
                    max_option_bytes=_OPTION_BYTES,
                )
            self._text_bytes += end - start
            if self._text_bytes > _TEXT_BYTES:
                raise TooManyBytes(
                    f"The URLs and options have more than {_TEXT_BYTES} bytes together.",
                    max_text_bytes=_TEXT_BYTES,
                )
        elif (
            part.field_name not in CONTAINER_FIELDS
            and self._part_bytes > self.limits.max_image_bytes
        ):
            limit = self.limits.max_image_bytes
            raise TooManyBytes(f"A picture has more than {limit} bytes.", max_image_bytes=limit)
        super().on_part_data(data, start, end)

    def on_end(self) -> None:
        self.complete = True


def _with_plain_filename(disposition: bytes | None) -> bytes | None:
    """A Content-Disposition whose file is named as ``filename*=UTF-8''...`` (RFC 8187), with the
    plain parameter that the parser knows. RFC 7578 forbids the long form, but some send it, alone
    or beside a plain name that says less."""
    found = None if disposition is None else _LONG_FILENAME.search(disposition)
    if disposition is None or found is None:
        return disposition
    charset, value = found[1].decode("latin-1").lower(), found[2].strip()
    try:
        name = unquote_to_bytes(value).decode(charset if charset == "iso-8859-1" else "utf-8")
    except UnicodeError:
        name = value.decode("latin-1")
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return disposition + f'; filename="{quoted}"'.encode()  # of two, the last counts


def _check_total(total: int, limits: Limits) -> None:
    limit = limits.max_total_bytes
    if total > limit:
        raise TooManyBytes(f"The request body has more than {limit} bytes.", max_total_bytes=limit)


def too_many_pictures(limits: Limits) -> TooManyPictures:
    limit = limits.max_images
    return TooManyPictures(
        f"More than {limit} pictures were sent; send fewer, or a video with a lower fps.",
        max_images=limit,
    )
