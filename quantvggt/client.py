"""The service over HTTP: submit pictures, follow the work, download files, resume.

What is said to the service and what its answers mean is written once, as generators that yield what
to do next; `Client` and `AsyncClient` differ in how they do it.
"""

from __future__ import annotations

import asyncio
import json
import mimetypes
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, aclosing, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from quantvggt import __version__
from quantvggt.errors import BadInputError, ServiceError
from quantvggt.files import DEFAULT, DOCUMENT, check_outputs, chosen, in_folder
from quantvggt.folder import replacing
from quantvggt.pictures import Source, expand, names
from quantvggt.result import Result

T = TypeVar("T")

Progress = Callable[[str, float], None]
"""Called with the stage ("upload", "queue", "reconstruct", "export", "download") and the share of
it that is done."""

Pictures = Source | Sequence[Source]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ENDED = ("succeeded", "failed", "cancelled")
_RECONNECTS = 20
_RECONNECT_SECONDS = 0.5


@dataclass(frozen=True)
class _Exchange:
    """A request, and who takes the answer's bytes as they come; without one they are in the
    response."""

    request: httpx.Request
    consume: Callable[[bytes], None] | None = None


Step = _Exchange | float
"""What a conversation wants next: an exchange, or some seconds of patience."""

Conversation = Generator[Step, httpx.Response, T]


def _ignore(stage: str, share: float) -> None:
    pass


class _Service:
    """Talks about the service at `server`, for example http://127.0.0.1:8000.

    `timeout` are seconds without a byte, not those that a reconstruction may take. Raises
    BadInputError for an address that is none.
    """

    def __init__(self, server: str, *, api_key: str | None = None, timeout: float = 600.0) -> None:
        address = urlsplit(server)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise BadInputError(f"{server!r} is not an address of the form http://host:port.")
        self.server = server.rstrip("/")
        self._headers = {"User-Agent": f"quantvggt/{__version__}"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        # a proxy from the environment can't reach this machine's own loopback address
        self._settings: dict[str, Any] = {
            "timeout": timeout,
            "trust_env": address.hostname not in _LOOPBACK,
        }

    def _waiting(self, seconds: float) -> Conversation[None]:
        deadline = time.monotonic() + seconds
        while True:
            try:
                yield self._get("/readyz")
                return
            except ServiceError as error:
                if time.monotonic() > deadline:
                    raise ServiceError(
                        f"The service was not ready within {seconds:g} seconds: {error}",
                        error.status,
                    ) from None
            yield 0.1

    def _submitting(
        self, pictures: Pictures, options: Mapping[str, Any], key: str | None, progress: Progress
    ) -> Conversation[str]:
        with ExitStack() as opened:
            form: list[tuple[str, Any]] = [
                (name, (None, _text(value))) for name, value in options.items()
            ]
            sources = expand(pictures)
            called = iter(names([source for source in sources if isinstance(source, Path)]))
            for source in sources:
                if isinstance(source, str):
                    form.append(("urls", (None, source)))
                    continue
                file = opened.enter_context(source.open("rb"))
                media_type = mimetypes.guess_type(source.name)[0] or "application/octet-stream"
                form.append((_field(source, media_type), (next(called), file, media_type)))
            headers = {"Prefer": "respond-async", "Idempotency-Key": key or uuid.uuid4().hex}
            request = self._request("POST", "/reconstruct", headers, files=form)
            request.stream = _Counted(request, progress)
            answer = yield _Exchange(request)
        return str(answer.json()["id"])

    def _following(self, id: str, progress: Progress) -> Conversation[None]:
        last, failures = "0", 0
        while True:
            events = _Events(last, progress)
            headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
            try:
                yield _Exchange(
                    self._request("GET", f"/reconstructions/{id}/events", headers), events.feed
                )
            except ServiceError as error:
                failures = 0 if events.last != last else failures + 1
                if failures > _RECONNECTS or (error.status is not None and error.status < 500):
                    raise
            last = events.last
            if (
                events.ended
                or (yield self._get(f"/reconstructions/{id}")).json()["state"] in _ENDED
            ):
                return
            yield _RECONNECT_SECONDS

    def _describing(self, id: str) -> Conversation[dict[str, Any]]:
        answer = (yield self._get(f"/reconstructions/{id}")).json()
        if answer["state"] != "succeeded":
            problem = answer.get("problem") or {}
            raise ServiceError(
                problem.get("detail") or f"The reconstruction is {answer['state']}.",
                problem.get("status", 409),
            )
        return dict(answer)

    def _downloading(
        self, id: str, folder: Path, outputs: Sequence[str], progress: Progress
    ) -> Conversation[dict[str, Any]]:
        check_outputs(outputs)
        served = yield from self._describing(id)
        names, missing = chosen(served, outputs)
        sizes = []
        progress("export", 0.0)
        # the service makes a file when it is first asked for
        for done, name in enumerate(names, start=1):
            answer = yield _Exchange(self._request("HEAD", f"/reconstructions/{id}/{name}"))
            sizes.append(int(answer.headers.get("Content-Length", 0)))
            progress("export", done / len(names))
        meter = _Meter("download", sum(sizes), progress)
        with replacing(folder) as staging:
            for name in names:
                path = staging / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:
                    taker = _both(file.write, meter.add)
                    yield _Exchange(self._request("GET", f"/reconstructions/{id}/{name}"), taker)
            document = in_folder(served, names)
            (staging / DOCUMENT).write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        if missing:
            raise BadInputError(f"this result has no file {', '.join(missing)}.")
        return document

    def _reconstructing(
        self,
        pictures: Pictures,
        options: Mapping[str, Any],
        outputs: Sequence[str],
        progress: Progress,
    ) -> Conversation[Result]:
        check_outputs(outputs)
        id = yield from self._submitting(pictures, options, None, progress)
        yield from self._following(id, progress)
        folder = Path(tempfile.mkdtemp(prefix="quantvggt-"))
        try:
            yield from self._downloading(id, folder, outputs, progress)
            return Result(folder, temporary=True)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _get(self, path: str) -> _Exchange:
        return _Exchange(self._request("GET", path))

    def _request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **body: Any
    ) -> httpx.Request:
        return httpx.Request(
            method, self.server + path, headers={**self._headers, **(headers or {})}, **body
        )

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise ServiceError(
                f"{self.server} can't be reached: {str(error) or type(error).__name__}."
            ) from None


class Client(_Service):
    """Talks to the service at `server`, for example http://127.0.0.1:8000.

    `timeout` are seconds without a byte, not those that a reconstruction may take. Every method
    raises ServiceError if the service refuses, fails or can't be reached, and BadInputError for
    what can't be meant.
    """

    def reconstruct(
        self,
        pictures: Pictures,
        *,
        outputs: Sequence[str] = DEFAULT,
        progress: Progress = _ignore,
        **options: Any,
    ) -> Result:
        """Send pictures, wait, and download the files that match `outputs`.

        `pictures` are files, folders, shell patterns, archives, videos, or URLs for the service to
        fetch; `options` those of the request, such as ``confidence=50`` or ``mode="crop"``.
        """
        return self._hold(self._reconstructing(pictures, options, outputs, progress))

    def submit(
        self,
        pictures: Pictures,
        options: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        progress: Progress = _ignore,
    ) -> str:
        """Send pictures; returns the reconstruction's id at once.

        The same `key` with the same files and options gives the same reconstruction, however often
        it is sent.
        """
        return self._hold(self._submitting(pictures, options or {}, key, progress))

    def follow(self, id: str, progress: Progress = _ignore) -> None:
        """Report progress until the reconstruction has ended, well or not, across broken
        connections."""
        self._hold(self._following(id, progress))

    def document(self, id: str) -> dict[str, Any]:
        """A finished reconstruction's document. Raises ServiceError with the reason if there is
        none."""
        return self._hold(self._describing(id))

    def download(
        self,
        id: str,
        folder: str | Path,
        outputs: Sequence[str] = DEFAULT,
        progress: Progress = _ignore,
    ) -> dict[str, Any]:
        """Write the files of a finished reconstruction that match `outputs` to `folder`, in place
        of an older result.

        Returns the document as it is written there.
        """
        return self._hold(self._downloading(id, Path(folder), outputs, progress))

    def wait_until_ready(self, seconds: float) -> None:
        """Wait for the model to be loaded. Raises ServiceError with the last reason when the time
        is up."""
        self._hold(self._waiting(seconds))

    def _hold(self, conversation: Conversation[T]) -> T:
        with httpx.Client(**self._settings) as http:
            try:
                step = next(conversation)
                while True:
                    try:
                        if isinstance(step, float):
                            time.sleep(step)
                            step = next(conversation)
                            continue
                        answer = self._exchange(http, step)
                    except ServiceError as error:
                        step = conversation.throw(error)
                    else:
                        step = conversation.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                conversation.close()

    def _exchange(self, http: httpx.Client, step: _Exchange) -> httpx.Response:
        with self._reachable():
            response = http.send(step.request, stream=True)
            with closing(response):
                if step.consume is None or not response.is_success:
                    response.read()
                else:
                    for chunk in response.iter_bytes():
                        step.consume(chunk)
        return _checked(response)


class AsyncClient(_Service):
    """`Client` for asyncio: the same methods, to be awaited. `progress` is called from the event
    loop."""

    async def reconstruct(
        self,
        pictures: Pictures,
        *,
        outputs: Sequence[str] = DEFAULT,
        progress: Progress = _ignore,
        **options: Any,
    ) -> Result:
        """As `Client.reconstruct`."""
        return await self._hold(self._reconstructing(pictures, options, outputs, progress))

    async def submit(
        self,
        pictures: Pictures,
        options: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        progress: Progress = _ignore,
    ) -> str:
        """As `Client.submit`."""
        return await self._hold(self._submitting(pictures, options or {}, key, progress))

    async def follow(self, id: str, progress: Progress = _ignore) -> None:
        """As `Client.follow`."""
        await self._hold(self._following(id, progress))

    async def document(self, id: str) -> dict[str, Any]:
        """As `Client.document`."""
        return await self._hold(self._describing(id))

    async def download(
        self,
        id: str,
        folder: str | Path,
        outputs: Sequence[str] = DEFAULT,
        progress: Progress = _ignore,
    ) -> dict[str, Any]:
        """As `Client.download`."""
        return await self._hold(self._downloading(id, Path(folder), outputs, progress))

    async def wait_until_ready(self, seconds: float) -> None:
        """As `Client.wait_until_ready`."""
        await self._hold(self._waiting(seconds))

    async def _hold(self, conversation: Conversation[T]) -> T:
        async with httpx.AsyncClient(**self._settings) as http:
            try:
                step = next(conversation)
                while True:
                    try:
                        if isinstance(step, float):
                            await asyncio.sleep(step)
                            step = next(conversation)
                            continue
                        answer = await self._exchange(http, step)
                    except ServiceError as error:
                        step = conversation.throw(error)
                    else:
                        step = conversation.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                conversation.close()

    async def _exchange(self, http: httpx.AsyncClient, step: _Exchange) -> httpx.Response:
        with self._reachable():
            response = await http.send(step.request, stream=True)
            async with aclosing(response):
                if step.consume is None or not response.is_success:
                    await response.aread()
                else:
                    async for chunk in response.aiter_bytes():
                        step.consume(chunk)
        return _checked(response)


class _Counted(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A request's body that reports how much of it has been sent."""

    def __init__(self, request: httpx.Request, progress: Progress) -> None:
        self._stream: Any = request.stream
        self._meter = _Meter("upload", int(request.headers.get("Content-Length", 0)), progress)

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            yield chunk
            self._meter.add(chunk)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk
            self._meter.add(chunk)


class _Meter:
    """Bytes that have passed, as a share of all."""

    def __init__(self, stage: str, total: int, progress: Progress) -> None:
        self._stage, self._total, self._progress = stage, total, progress
        self._passed = 0
        progress(stage, 0.0)

    def add(self, chunk: bytes) -> None:
        self._passed += len(chunk)
        self._progress(self._stage, min(self._passed / max(self._total, 1), 1.0))


class _Events:
    """Server-sent events of a reconstruction, as they come in."""

    def __init__(self, last: str, progress: Progress) -> None:
        self.last = last  # number of the latest one
        self.ended = False
        self._progress = progress
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.decode("utf-8").partition(": ")
            if name == "id":
                self.last = value
            elif name == "data":
                self._take(json.loads(value))

    def _take(self, data: dict[str, Any]) -> None:
        if "timings" in data or data["state"] in _ENDED:
            self.ended = True
            if data["state"] == "succeeded":  # however fast it was
                self._progress("reconstruct", 1.0)
        elif (data.get("stage") or data["state"]) in ("queue", "queued"):
            self._progress("queue", 0.0)
        else:
            self._progress("reconstruct", float(data["progress"]))


def _both(*takers: Callable[[bytes], Any]) -> Callable[[bytes], None]:
    def take(chunk: bytes) -> None:
        for taker in takers:
            taker(chunk)

    return take


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    try:
        problem = response.json()
        reason = str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, AttributeError):
        reason = f"The service answered {response.status_code} {response.reason_phrase}."
    raise ServiceError(reason, response.status_code)


def _field(path: Path, media_type: str) -> str:
    """The form's field for a file."""
    if media_type.startswith("video/"):
        return "video"
    return "archive" if path.suffix.lower() == ".zip" else "images"


def _text(value: Any) -> str:
    """An option as it is sent."""
    return value if isinstance(value, str) else json.dumps(value)
