from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from quantvggt.client import Client
from service.jobs.bounds import Bounds
from service.jobs.database import Database
from service.jobs.store import JobStore
from tests.service.pictures import encode, form, make_picture
from tests.service.running import PATIENCE, Serve

ROOT = Path(__file__).parents[3]


def test_a_request_head_that_trickles_is_cut_off(serve: Serve) -> None:
    service = serve(header_timeout=0.2)
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert connection.recv(100) == b""  # closed
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.settimeout(PATIENCE)
        assert connection.recv(100) == b""  # nothing at all was sent


def test_a_second_request_on_the_connection_has_the_same_limit_and_slow_answers_have_none(
    serve: Serve,
) -> None:
    service = serve(header_timeout=0.2)
    assert (
        service.client.post("/reconstruct", files=form(encode(make_picture()))).status_code == 200
    )
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.settimeout(PATIENCE)
        for _ in range(2):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b'"alive"}'):
                answer += connection.recv(4000)
            assert answer.startswith(b"HTTP/1.1 200")
            time.sleep(0.3)  # idle between two requests is no slow head
        connection.sendall(b"GET /livez HTTP/1.1\r\nX")
        assert connection.recv(100) == b""


def test_a_body_that_trickles_on_after_its_answer_is_cut_off(serve: Serve) -> None:
    service = serve(header_timeout=0.2)
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(
            b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
        )
        assert connection.recv(4000).startswith(b"HTTP/1.1 404")

        def trickle() -> None:
            for _ in range(5000):  # as long as the service listens
                connection.sendall(b"x")
                time.sleep(0.02)

        with pytest.raises(ConnectionError):
            trickle()


def test_beyond_the_bound_on_connections_health_is_still_answered(serve: Serve) -> None:
    service = serve(max_connections=4)
    health = httpx.Client(base_url=f"http://127.0.0.1:{service.port}", trust_env=False)
    service.client.close()
    held = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(4)]
    try:
        for path, status in (("/livez", 200), ("/reconstructions", 503), ("/readyz", 200)):
            answer = health.get(path)
            assert answer.status_code == status
            assert answer.headers["connection"] == "close"
    finally:
        for connection in held:
            connection.close()
        health.close()


@pytest.fixture
def slow(artifact: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A true process whose passes take seconds."""
    code = (
        "import sys, time\n"
        "from service.inference.engine import Engine\n"
        "infer = Engine.infer\n"
        "def slow(self, batch, observer, *rest):\n"
        "    for _ in range(20):\n"
        "        time.sleep(0.05); observer('aggregator', 0.1)\n"
        "    return infer(self, batch, observer, *rest)\n"
        "Engine.infer = slow\n"
        "from quantvggt.command import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", "--artifact", str(artifact), "--port", "0", "--json"]  # noqa: RUF005
        + ["--data-dir", str(tmp_path / "data"), "--log-level", "warning"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    Client(url).wait_until_ready(60)
    yield process, url
    process.kill()
    process.communicate()


def test_a_signal_lets_the_running_work_finish_refuses_new_work_and_keeps_the_queue(
    slow: tuple[subprocess.Popen[str], str], artifact: Path, tmp_path: Path
) -> None:
    process, url = slow
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        running, queued = (
            client.post(
                "/reconstruct",
                files=form(encode(make_picture(seed=seed))),
                headers={"Prefer": "respond-async"},
            ).json()["id"]
            for seed in range(2)
        )
        while client.get(f"/reconstructions/{running}").json()["state"] != "running":
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        while (ready := client.get("/readyz")).status_code == 200:
            time.sleep(0.02)
        assert ready.json()["type"] == "/problems/draining"
        assert client.get("/livez").status_code == 200
        refused = client.post("/reconstruct", files=form(encode(make_picture())))
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/draining")
        assert refused.headers["retry-after"]
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors

    store = JobStore(Database(tmp_path / "data" / "jobs.sqlite3"), Bounds(10, 1e9))
    states = [found.state for found in map(store.get, (running, queued)) if found]
    store.close()
    assert states == ["succeeded", "queued"]
