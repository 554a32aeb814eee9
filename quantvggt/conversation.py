"""What is said to the service and what its answers mean, as generators that yield what to do next,
whoever does it and how."""

from __future__ import annotations

import json
import mimetypes
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from quantvggt import __version__
from quantvggt.errors import BadInputError, ServiceError
from quantvggt.events import ENDED, Events
from quantvggt.files import DOCUMENT, check_outputs, chosen, in_folder
from quantvggt.folder import replacing
from quantvggt.pictures import VIDEO_SUFFIXES, Source, expand, names
from quantvggt.result import Result
from quantvggt.transfer import Counted, Meter, Progress

T = TypeVar("T")

Pictures = Source | Sequence[Source]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_PATH = "/reconstruct"
_RECONNECTS = 20
_RECONNECT_SECONDS = 0.5


@dataclass(frozen=True)
class Exchange:
    """A request, and who takes the answer's bytes as they come; without one they are in the
    response."""

    request: httpx.Request
    consume: Callable[[bytes], None] | None = None


Step = Exchange | float
"""What a conversation wants next: an exchange, or some seconds of patience."""

Conversation = Generator[Step, httpx.Response, T]


def ignore(stage: str, share: float) -> None:
    """Progress that nobody asked for."""


class Service:
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
        headers = {"Prefer": "respond-async", "Idempotency-Key": key or uuid.uuid4().hex}
        answer = yield from self._sending(_PATH, pictures, options, headers, progress)
        if answer.get("dry_run"):
            raise BadInputError("dry_run makes no reconstruction; `predict` says what it finds.")
        return str(answer["id"])

    def _predicting(
        self, pictures: Pictures, options: Mapping[str, Any], progress: Progress
    ) -> Conversation[dict[str, Any]]:
        chosen = {**options, "dry_run": True}
        return (yield from self._sending(_PATH, pictures, chosen, {}, progress))

    def _starting(
        self, scenes: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> Conversation[dict[str, Any]]:
        table = {"scenes": list(scenes), "options": dict(options)}
        return dict((yield Exchange(self._request("POST", "/batches", json=table))).json())

    def _completing(
        self, id: str, number: int, pictures: Pictures, progress: Progress
    ) -> Conversation[dict[str, Any]]:
        path = f"/batches/{id}/scenes/{number}"
        return (yield from self._sending(path, pictures, {}, {}, progress))

    def _asking_for_batch(self, id: str) -> Conversation[dict[str, Any]]:
        return dict((yield self._get(f"/batches/{id}")).json())

    def _beginning_anew(self, id: str) -> Conversation[dict[str, Any]]:
        return dict((yield Exchange(self._request("POST", f"/batches/{id}/retry"))).json())

    def _sending(
        self,
        path: str,
        pictures: Pictures,
        options: Mapping[str, Any],
        headers: dict[str, str],
        progress: Progress,
    ) -> Conversation[dict[str, Any]]:
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
            request = self._request("POST", path, headers, files=form)
            request.stream = Counted(request, progress)
            answer: dict[str, Any] = (yield Exchange(request)).json()
        return answer

    def _following(self, id: str, progress: Progress) -> Conversation[None]:
        last, failures = "0", 0
        while True:
            events = Events(last, progress)
            headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
            try:
                yield Exchange(
                    self._request("GET", f"/reconstructions/{id}/events", headers), events.feed
                )
                if events.ended:
                    return
                if (yield self._get(f"/reconstructions/{id}")).json()["state"] in ENDED:
                    return
            except ServiceError as error:
                if events.ended:
                    return
                failures = 0 if events.last != last else failures + 1
                if failures > _RECONNECTS or (error.status is not None and error.status < 500):
                    raise
            last = events.last
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
            answer = yield Exchange(self._request("HEAD", f"/reconstructions/{id}/{name}"))
            sizes.append(int(answer.headers.get("Content-Length", 0)))
            progress("export", done / len(names))
        meter = Meter("download", sum(sizes), progress)
        with replacing(folder) as staging:
            for name in names:
                path = staging / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:
                    taker = _both(file.write, meter.add)
                    yield Exchange(self._request("GET", f"/reconstructions/{id}/{name}"), taker)
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

    def _get(self, path: str) -> Exchange:
        return Exchange(self._request("GET", path))

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


def _both(*takers: Callable[[bytes], Any]) -> Callable[[bytes], None]:
    def take(chunk: bytes) -> None:
        for taker in takers:
            taker(chunk)

    return take


def checked(response: httpx.Response) -> httpx.Response:
    """The answer. Raises ServiceError with its reason if it is a refusal."""
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
    if media_type.startswith("video/") or path.suffix.lower() in VIDEO_SUFFIXES:
        return "video"
    return "archive" if path.suffix.lower() == ".zip" else "images"


def _text(value: Any) -> str:
    """An option as it is sent."""
    return value if isinstance(value, str) else json.dumps(value)
