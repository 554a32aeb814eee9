"""True servers of what replicas share: a PostgreSQL, and an object store that speaks S3. Each ends
with its context."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
import uuid
from pathlib import Path

import httpx
import psycopg
import pytest

_ROOT = Path(__file__).parents[2]
_UNPRIVILEGED = 65534  # PostgreSQL refuses to run as root


class Postgres:
    """A PostgreSQL on a free port of the loopback interface, with its data in a temporary
    folder."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        program = str(found[-1]) if found else shutil.which("postgres")
        if program is None:
            pytest.skip("PostgreSQL is not installed")
        self._program = Path(program)
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        if os.getuid() == 0:
            os.chown(self._folder, _UNPRIVILEGED, _UNPRIVILEGED)
        initialise = (
            "initdb",
            "--pgdata",
            str(self._data),
            "--auth",
            "trust",
            "--username",
            "recon",
            "--no-sync",
            "-E",
            "UTF8",
        )
        subprocess.run(
            self._command(*initialise), check=True, stdout=subprocess.DEVNULL, env={"LC_ALL": "C"}
        )
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def url(self) -> str:
        """Address of a new and empty database."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self._address(name)

    def start(self) -> None:
        options = {
            "port": self.port, "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._folder, "fsync": "off", "max_connections": 100,
        }  # fmt: skip
        flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = self._command("postgres", "-D", str(self._data), *flags)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env={"LC_ALL": "C"})
        deadline = time.monotonic() + 120
        while True:
            try:
                psycopg.connect(self._address("postgres")).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "PostgreSQL does not start"
                time.sleep(0.05)

    def stop(self) -> None:
        """End it as a crash would: connections break off."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        shutil.rmtree(self._folder)

    def _address(self, database: str) -> str:
        return f"postgresql://recon:secret@127.0.0.1:{self.port}/{database}"

    def _command(self, program: str, *arguments: str) -> list[str]:
        command = [str(self._program.with_name(program)), *arguments]
        if os.getuid() == 0:
            user = str(_UNPRIVILEGED)
            command = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", *command]
        return command


class ObjectServer:
    """moto's S3 server, a process of its own, behind a door that can be shut. What it holds goes
    with it."""

    def __init__(self) -> None:
        self._program = _ROOT / "build" / "moto" / "bin" / "moto_server"
        if not self._program.exists():
            pytest.skip("there is no S3 server; `make build/moto/bin/moto_server` installs one")
        self._inner_port = free_port()
        self._door = _Door(self._inner_port)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a service finds it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._door.server_address[1]}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }

    def start(self) -> None:
        command = [str(self._program), "-H", "127.0.0.1", "-p", str(self._inner_port)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        threading.Thread(target=self._door.serve_forever, daemon=True).start()
        deadline = time.monotonic() + 120
        while True:
            try:
                return self._make_bucket("recon")
            except httpx.TransportError:
                assert time.monotonic() < deadline, "the S3 server does not start"
                time.sleep(0.05)

    def stop(self) -> None:
        self._door.shutdown()
        self._door.server_close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def hide(self) -> None:
        """Let nobody in, and throw out who is."""
        self._door.open = False

    def show(self) -> None:
        self._door.open = True

    def url(self) -> str:
        """Address of a part of its bucket that nobody else uses."""
        return f"s3://recon/{uuid.uuid4().hex}"

    def _make_bucket(self, name: str) -> None:
        answer = httpx.put(f"http://127.0.0.1:{self._inner_port}/{name}", trust_env=False)
        assert answer.status_code == 200, answer.text


class _Door(socketserver.ThreadingTCPServer):
    """Passes bytes to and fro between whoever comes and `port`, while it is `open`."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        self.open = True
        self.inner = ("127.0.0.1", port)
        super().__init__(("127.0.0.1", 0), _Passage)


class _Passage(socketserver.BaseRequestHandler):
    server: _Door

    def handle(self) -> None:
        if not self.server.open:
            return
        with socket.create_connection(self.server.inner) as inner:
            other = {self.request: inner, inner: self.request}
            while self.server.open:
                for side in select.select([*other], [], [], 0.1)[0]:
                    content = side.recv(2**16)
                    if not content:
                        return
                    other[side].sendall(content)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
