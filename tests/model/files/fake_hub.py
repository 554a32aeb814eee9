"""A model hub on the loopback interface: as much of HTTP as the real client asks for."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import dumps
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import close_session, constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GRANTED, REFUSED = "hf_granted", "hf_refused"


@dataclass
class FakeHub:
    """What it holds and how it behaves; both may be changed while it runs."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    # of files that are said to be larger than they are
    sizes: dict[str, int] = field(default_factory=dict)
    status: int = 200  # of every answer
    silent: bool = False
    url: str = ""
    asked: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.asked.append(f"{self.command} {path}")
        if hub.silent:
            hub.released.wait()
            return
        if hub.status != 200:
            return self._send(hub.status)
        if path.startswith("/api/models/"):
            repository, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            name = None
        else:
            repository, _, rest = path.removeprefix("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
        if repository not in hub.files:
            return self._send(401, error="RepoNotFound")
        if revision not in ("", "main", COMMIT):
            return self._send(404, error="RevisionNotFound")
        files = hub.files[repository]
        if name is None:  # gated repositories are listed to everybody
            return self._send(
                200,
                dumps(
                    {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": n} for n in files]}
                ),
            )
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repository in hub.gated and token != GRANTED:
            return self._send(403 if token else 401, error="GatedRepo")
        if name not in files:
            return self._send(404, error="EntryNotFound")
        self._send(200, files[name], hub.sizes.get(name))

    def _send(
        self,
        status: int,
        body: str | bytes = b"",
        size: int | None = None,
        error: str | None = None,
    ) -> None:
        content = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        if size is not None:
            self.send_header("X-Linked-Size", str(size))
        if error is not None:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@contextmanager
def fake_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Runs a hub, and points the client, without a token, to it and to an empty cache meanwhile."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    ask(hub.url, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    try:
        yield hub
    finally:
        hub.released.set()
        close_session()
        server.shutdown()
        server.server_close()
        thread.join()


def ask(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points the client to another address, as HF_ENDPOINT does when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
