from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quantvggt.client import Client

ROOT = Path(__file__).parents[3]

Start = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def start(artifact: Path) -> Iterator[Start]:
    """Start true processes: start(*flags, program="service", **environment) gives one and its
    address, ready."""
    processes: list[subprocess.Popen[str]] = []

    def run(
        *flags: str, program: str = "service", **environment: str
    ) -> tuple[subprocess.Popen[str], str]:
        command = [
            sys.executable,
            "-m",
            program,
            "serve",
            "--artifact",
            str(artifact),
            "--json",
            "--port",
            "0",
        ]
        process = subprocess.Popen(
            [*command, "--log-level", "warning", *flags],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        Client(url).wait_until_ready(120)
        return process, url

    yield run
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.communicate()
