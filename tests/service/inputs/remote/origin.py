"""A server of one's own for URLs: it answers a path with whatever bytes a test wants, over TLS or
not."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import trustme

Answer = bytes | Callable[[socket.socket], None]


@dataclass
class Origin:
    """Listens on 127.0.0.1 until `stop`; `requests` are the heads that came."""

    certificates: trustme.CA | None = None
    name: str = "127.0.0.1"
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._context = None
        if self.certificates is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.certificates.issue_cert(self.name).configure_cert(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, path: str) -> str:
        return f"{'http' if self._context is None else 'https'}://{self.name}:{self.port}{path}"

    def stop(self) -> None:
        with suppress(OSError):  # stopped already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # a client that stops reading is what some tests are about
        with suppress(OSError), connection:
            if self._context is None:
                self._answer(connection)
                return
            with self._context.wrap_socket(connection, server_side=True) as encrypted:
                self._answer(encrypted)

    def _answer(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            received = connection.recv(65536)
            if not received:
                return
            head += received
        self.requests.append(head)
        answer = self.answers.get(head.split()[1].decode(), plain(b"", "404 Not Found"))
        if callable(answer):
            answer(connection)
        else:
            connection.sendall(answer)


def plain(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """A whole answer with its true length."""
    lines = [
        f"{name.replace('_', '-')}: {value}"
        for name, value in {"Content_Length": str(len(body)), **headers}.items()
    ]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "Connection: close", "", ""]).encode() + body


def redirect(location: str) -> bytes:
    return plain(b"", "302 Found", Location=location)
