"""Replicas under test: true processes of the service on one PostgreSQL and one object store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from quantvggt.client import Client
from service.storage.bucket import Bucket
from tests.service.pictures import encode, form, make_picture
from tests.service.running import wait_until
from tests.service.servers import ObjectServer, Postgres

_ROOT = Path(__file__).parents[2]
ASYNC = {"Prefer": "respond-async"}
ENDED = ("succeeded", "failed", "cancelled")


class Replica:
    """One process. It is ready once it has been waited for."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=_ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        self.url = json.loads(self.process.stdout.readline())["url"]
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=60)

    def wait_until_ready(self) -> Replica:
        Client(self.url).wait_until_ready(120)
        return self

    def post(
        self, seed: int, headers: dict[str, str] = ASYNC, model: str | None = None
    ) -> httpx.Response:
        files = form(*(encode(make_picture(seed=seed + number)) for number in range(2)))
        data = {} if model is None else {"model": model}
        return self.client.post("/reconstruct", files=files, data=data, headers=headers)

    def state(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/reconstructions/{id}").json()
        return found

    def wait_for_state(self, id: str, *states: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        deadline = time.monotonic() + 120
        while found.get("state") not in states:
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
            found = self.state(id)
        return found

    def wait_for_stage(self, id: str, stage: str) -> dict[str, Any]:
        wait_until(lambda: self.state(id).get("stage") == stage, lambda: str(self.state(id)))
        return self.state(id)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once; again does no harm."""
        self.signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.client.close()


class Cluster:
    """Starts replicas and knows what is on record about their jobs."""

    def __init__(
        self, artifact: Path, folder: Path, postgres: Postgres, objects: ObjectServer, **flags: Any
    ) -> None:
        self._folder = folder
        self._held = folder / "hold"
        self.database = postgres.url()
        self.object_store = objects.url()
        self._objects = objects
        settings = {
            **({} if "model" in flags else {"artifact": artifact}),
            "port": 0,
            "log-level": "warning",
            "lease": 2,
            "shutdown-timeout": 1,
            **flags,
        }
        words = [
            word
            for name, value in settings.items()
            for each in (value if isinstance(value, tuple) else (value,))
            for word in (f"--{name.replace('_', '-')}", str(each))
        ]
        self._command = [
            sys.executable,
            "-m",
            "tests.service.held_service",
            "serve",
            "--json",
            *words,
        ]
        self._environment = {
            **os.environ,
            **objects.environment,
            "OMP_NUM_THREADS": "1",
            "HOLD": str(self._held),
            "QUANTVGGT_DATABASE": self.database,
            "QUANTVGGT_OBJECT_STORE": self.object_store,
        }
        self.replicas: list[Replica] = []

    def start(self) -> Replica:
        log = self._folder / f"replica-{len(self.replicas)}.log"
        self.replicas.append(Replica(self._command, self._environment, log))
        return self.replicas[-1]

    def hold(self, after: int = 0) -> None:
        """Let no pass of the network end, or none after the first few, on any replica."""
        self._held.write_text(str(after))

    def let_go(self) -> None:
        self._held.unlink(missing_ok=True)

    def row(self, id: str) -> dict[str, Any]:
        """What is on record of a job."""
        with psycopg.connect(self.database, row_factory=psycopg.rows.dict_row) as connection:
            found = connection.execute("SELECT * FROM jobs WHERE id = %s", (id,)).fetchone()
        assert found is not None
        return found

    def runner(self, id: str) -> Replica:
        """The replica that runs a job, once one does."""
        wait_until(lambda: self.row(id)["state"] == "running", lambda: str(self.row(id)))
        process = int(self.row(id)["worker"].split("-")[-2])
        return next(replica for replica in self.replicas if replica.process.pid == process)

    def busy(self) -> Replica:
        """A replica that runs a job at this moment."""
        found: list[Replica] = []

        def look() -> bool:
            with psycopg.connect(self.database) as connection:
                running = connection.execute(
                    "SELECT worker FROM jobs WHERE state = 'running'"
                ).fetchall()
            processes = {int(worker.split("-")[-2]) for (worker,) in running}
            found.extend(
                replica
                for replica in self.replicas
                if replica.alive and replica.process.pid in processes
            )
            return bool(found)

        wait_until(look)
        return found[0]

    def attempts(self, id: str) -> set[str]:
        """The attempts at a job of which something lies in the object store."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self._objects.environment.items():
                patch.setenv(name, value)
            found = Bucket(self.object_store).listing(f"results/{id}")
            return {stored.folder.rpartition("/")[2] for stored in found}

    def stop(self) -> None:
        for replica in self.replicas:
            replica.kill()
