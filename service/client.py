"""A small HTTP client of the service, on the standard library alone: submit, follow, download, resume."""

from __future__ import annotations

import json
import mimetypes
import shutil
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from service.exports.links import in_folder
from service.exports.unpacking import extract
from service.result.document import RESULT_FILE, ReconstructionDocument

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_RECONNECTS = 20
_RECONNECT_SECONDS = 0.5

Progress = Callable[[str, float], None]
"""Called with what the service does now and the share that is done."""


class ServiceError(RuntimeError):
    """The service refused, failed or could not be reached. One sentence, the service's own where it gave one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status  # of the answer; None if there was none


class Client:
    """Talks to the service at `server`, for example http://127.0.0.1:8000."""

    def __init__(self, server: str, timeout: float = 600.0, api_key: str | None = None) -> None:
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ServiceError(f"{server!r} is not an address of the form http://host:port.")
        self.server = server.rstrip("/")
        self.timeout = timeout
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._opener = _opener(parts.hostname)

    def wait_until_ready(self, seconds: float) -> None:
        """Poll /readyz. Raises ServiceError with the last reason when the time is up."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._send("/readyz")
                return
            except ServiceError as error:
                if time.monotonic() > deadline:
                    raise ServiceError(f"The service was not ready within {seconds:g} seconds: {error}") from None
            time.sleep(0.1)

    def submit(self, files: Sequence[Path | str], options: Mapping[str, str], key: str) -> str:
        """Post pictures, archives or videos in this order; returns the reconstruction's id at once.

        Paths are sent, text is a URL for the service to fetch, which not every one does.

        The same `key` with the same files and options gives the same reconstruction, however often it is sent.
        """
        boundary = uuid.uuid4().hex
        body = _multipart(boundary, files, options)
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Prefer": "respond-async",
            "Idempotency-Key": key,
        }
        return str(json.loads(self._send("/reconstruct", body, headers))["id"])

    def follow(self, id: str, progress: Progress) -> None:
        """Report progress until the reconstruction has ended, across broken connections. Raises ServiceError."""
        last, failures = "0", 0
        while True:
            try:
                for number, data in self._events(id, last):
                    last, failures = number, 0
                    if "timings" in data or data["state"] in ("succeeded", "failed", "cancelled"):
                        return
                    progress(str(data.get("stage") or data["state"]), float(data["progress"]))
            except ServiceError as error:
                failures += 1
                if failures > _RECONNECTS or (error.status is not None and error.status < 500):
                    raise
            state = json.loads(self._send(f"/reconstructions/{id}"))["state"]
            if state in ("succeeded", "failed", "cancelled"):
                return
            time.sleep(_RECONNECT_SECONDS)

    def result(self, id: str) -> ReconstructionDocument:
        """A finished reconstruction's document. Raises ServiceError with the reason if there is none."""
        answer = json.loads(self._send(f"/reconstructions/{id}"))
        if answer["state"] != "succeeded":
            problem = answer.get("problem") or {}
            raise ServiceError(problem.get("detail") or f"The reconstruction is {answer['state']}.", 409)
        return ReconstructionDocument.model_validate(answer)

    def reconstruct(
        self, files: Sequence[Path | str], options: Mapping[str, str], progress: Progress = lambda stage, share: None
    ) -> ReconstructionDocument:
        """Submit, follow, and return the result."""
        id = self.submit(files, options, uuid.uuid4().hex)
        self.follow(id, progress)
        return self.result(id)

    def download(
        self, served: ReconstructionDocument, out: Path, outputs: Sequence[str] = ()
    ) -> ReconstructionDocument:
        """Fetch the files named `outputs`, or all, into `out`; returns the document as written."""
        out.mkdir(parents=True, exist_ok=True)
        if not outputs:
            archive = out / "everything.zip.partial"
            self._fetch(str(served.links["archive"]), archive)
            with zipfile.ZipFile(archive) as files:
                extract(files, out)
            archive.unlink()
        for name in outputs:
            self._fetch(f"/reconstructions/{served.id}/{name}", out / name)
        local = in_folder(served)
        (out / RESULT_FILE).write_text(local.model_dump_json(indent=1) + "\n")
        return local

    def _events(self, id: str, last: str) -> Iterator[tuple[str, dict[str, Any]]]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
        number = last
        with self._open(f"/reconstructions/{id}/events", None, headers) as stream:
            try:
                for line in stream:
                    name, _, value = line.decode().rstrip("\n").partition(": ")
                    if name == "id":
                        number = value
                    elif name == "data":
                        yield number, json.loads(value)
            except OSError as error:
                raise ServiceError(f"The connection to {self.server} broke: {error}.") from None

    def _fetch(self, path: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._open(path) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)

    def _send(self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> bytes:
        with self._open(path, body, headers) as response:
            content: bytes = response.read()
            return content

    def _open(self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Any:
        request = Request(self.server + path, data=body, headers={**self._headers, **(headers or {})})
        try:
            return self._opener.open(request, timeout=self.timeout)
        except HTTPError as error:
            with error:
                raise ServiceError(_reason(error), error.code) from None
        except (URLError, OSError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise ServiceError(f"{self.server} can't be reached: {reason}.") from None


def _opener(host: str) -> OpenerDirector:
    # A proxy from the environment can't reach this machine's own loopback address.
    return build_opener(ProxyHandler({})) if host in _LOOPBACK else build_opener()


def _reason(error: HTTPError) -> str:
    try:
        problem = json.loads(error.read())
        return str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, AttributeError, OSError):
        return f"The service answered {error.code} {error.reason}."


def _multipart(boundary: str, files: Sequence[Path | str], options: Mapping[str, str]) -> bytes:
    parts: list[bytes] = []
    for name, value in options.items():
        parts.append(f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode())
    for path in files:
        if isinstance(path, str):
            parts.append(f'Content-Disposition: form-data; name="urls"\r\n\r\n{path}'.encode())
            continue
        media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        file_name = path.name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")  # as browsers do
        field = "video" if media_type.startswith("video/") else "archive" if path.suffix == ".zip" else "images"
        head = f'Content-Disposition: form-data; name="{field}"; filename="{file_name}"\r\nContent-Type: {media_type}'
        parts.append(head.encode() + b"\r\n\r\n" + path.read_bytes())
    delimiter = f"--{boundary}".encode()
    return b"".join(delimiter + b"\r\n" + part + b"\r\n" for part in parts) + delimiter + b"--\r\n"
