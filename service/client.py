"""A small HTTP client of the service, on the standard library alone."""

from __future__ import annotations

import json
import mimetypes
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from service.folder import write_document, write_file
from service.result import ReconstructionDocument

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ServiceError(RuntimeError):
    """The service refused, failed or could not be reached. One sentence, the service's own where it gave one."""


class Client:
    """Talks to the service at `server`, for example http://127.0.0.1:8000."""

    def __init__(self, server: str, timeout: float = 600.0) -> None:
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ServiceError(f"{server!r} is not an address of the form http://host:port.")
        self.server = server.rstrip("/")
        self.timeout = timeout
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

    def reconstruct(self, pictures: Sequence[Path], mode: str | None = None) -> ReconstructionDocument:
        """Post the pictures, in this order, and return the service's answer."""
        boundary = uuid.uuid4().hex
        body = _multipart(boundary, pictures, {"mode": mode} if mode else {})
        answer = self._send("/reconstruct", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
        return ReconstructionDocument.model_validate_json(answer)

    def download(self, served: ReconstructionDocument, out: Path) -> ReconstructionDocument:
        """Fetch every file of a served reconstruction into `out`; returns the document as written."""
        local = served.in_folder()
        write_file(out, local.links.points, self._send(served.links.points))
        for there, here in zip(served.pictures, local.pictures, strict=True):
            for (_, link), (_, name) in zip(there.depth.links, here.depth.links, strict=True):
                write_file(out, name, self._send(link))
        write_document(local, out)
        return local

    def _send(self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
        request = Request(self.server + path, data=body, headers=headers or {})
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                content: bytes = response.read()
                return content
        except HTTPError as error:
            with error:
                raise ServiceError(_reason(error)) from None
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


def _multipart(boundary: str, pictures: Sequence[Path], options: dict[str, str]) -> bytes:
    parts: list[bytes] = []
    for name, value in options.items():
        parts.append(f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode())
    for picture in pictures:
        media_type = mimetypes.guess_type(picture.name)[0] or "application/octet-stream"
        file_name = picture.name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")  # as browsers do
        head = f'Content-Disposition: form-data; name="images"; filename="{file_name}"\r\nContent-Type: {media_type}'
        parts.append(head.encode() + b"\r\n\r\n" + picture.read_bytes())
    delimiter = f"--{boundary}".encode()
    return b"".join(delimiter + b"\r\n" + part + b"\r\n" for part in parts) + delimiter + b"--\r\n"
