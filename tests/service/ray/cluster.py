"""A true service process on a local Ray cluster of its own, and the processes that belong to it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from quantvggt.client import Client
from tests.service.pictures import encode, form, make_picture

ROOT = Path(__file__).parents[3]
PATIENCE = 300.0


@dataclass
class Cluster:
    """The service behind `client`; its replicas wait in the middle of a pass while the file `hold`
    is there."""

    process: subprocess.Popen[str]
    client: httpx.Client
    hold: Path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within the context no pass gets beyond its middle, however fast or slow this machine
        is."""
        self.hold.touch()
        try:
            yield
        finally:
            self.hold.unlink()

    def submit(self, pictures: int, seed: int = 0) -> str:
        """Post a job of so many pictures; returns its id."""
        files = form(*(encode(make_picture(seed=seed + i)) for i in range(pictures)))
        answer = self.client.post("/reconstruct", files=files, headers={"Prefer": "respond-async"})
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def look(self, id: str) -> dict:
        return self.client.get(f"/reconstructions/{id}").json()

    def ended(self, id: str) -> dict:
        """The document of a job once it has ended."""
        self.wait(
            lambda: self.look(id)["state"] in ("succeeded", "failed", "cancelled"), f"{id} to end"
        )
        return self.look(id)

    def in_the_middle(self, *ids: str) -> None:
        """Wait until a replica has got into each of the jobs."""
        self.wait(
            lambda: all(0.1 < self.look(id)["progress"] < 0.9 for id in ids),
            f"{ids} to be worked on",
        )

    def replicas(self) -> list[int]:
        """Processes of replicas."""
        return sorted(
            pid for pid, name in descendants(self.process.pid).items() if "ServeReplica" in name
        )

    def running(self) -> float:
        """Replicas that run, as /metrics says."""
        (value,) = re.findall(
            r'^quantvggt_replicas{state="running"} (\S+)', self.client.get("/metrics").text, re.M
        )
        return float(value)

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None, "the service has ended"
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.02)


@contextmanager
def started(
    artifact: Path, folder: Path, *flags: str, program: str = "service"
) -> Iterator[Cluster]:
    """A service whose replicas are ready; killed at the end unless it has ended by itself."""
    command = [
        sys.executable,
        "-m",
        program,
        "serve",
        "--artifact",
        str(artifact),
        "--engine",
        "ray",
        "--port",
        "0",
    ]
    command += [
        "--json",
        "--data-dir",
        str(folder / "data"),
        "--replica-cpus",
        "1",
        "--log-level",
        "warning",
        *flags,
    ]
    hold = folder / "hold"
    environment = {**os.environ, "HOLD": str(hold)}
    with (folder / "errors.txt").open("w") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )  # fmt: skip
    assert process.stdout is not None
    try:
        url = json.loads(process.stdout.readline())["url"]
        Client(url).wait_until_ready(PATIENCE)
        with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE) as client:
            yield Cluster(process, client, hold)
    finally:
        left = descendants(process.pid)
        process.kill()
        process.communicate()
        for pid in left:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> dict[int, str]:
    """Processes below `pid`, with what they call themselves."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                folder.joinpath("stat").read_text().rpartition(")")[2].split()[1]
            )
        except OSError:
            continue
    found: dict[int, str] = {}
    for child in parents:
        above = child
        while above in parents and above != pid:
            above = parents[above]
        if above == pid and child != pid:
            found[child] = _name(child)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
