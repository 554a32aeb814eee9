"""kill -9 in mid-job, ten times, and at every point of a job's life: every accepted job ends in a
result or a reported failure, and no file is corrupt."""

from __future__ import annotations

import hashlib
import io
import json
import random
import signal
import threading
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.service.pictures import encode, form, make_picture
from tests.service.rooms import room
from tests.service.running import wait_until
from tests.service.stopping_service import POINTS
from tests.service.stress.conftest import Start

pytestmark = pytest.mark.stress

KILLS = 10
ENDED = ("succeeded", "failed", "cancelled")


def test_ten_kills_lose_nothing(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(0)
    bounds = ("--queue-limit", "40", "--keep", "10000")
    accepted: dict[str, int] = {}
    seed = 0
    for _ in range(KILLS):
        process, url = start("--data-dir", str(tmp_path / "data"), *bounds)
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            deadline = time.monotonic() + chance.uniform(0.2, 1.5)
            while time.monotonic() < deadline:
                files = form(*(encode(make_picture(seed=seed + i)) for i in range(6)))
                answer = client.post(
                    "/reconstruct", files=files, headers={"Prefer": "respond-async"}
                )
                if answer.status_code == 202:
                    accepted[answer.json()["id"]] = seed
                seed += 10
        process.send_signal(signal.SIGKILL)
        process.wait()
    _, url = start("--data-dir", str(tmp_path / "data"), *bounds)
    states = dict.fromkeys(ENDED, 0)
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        for id in accepted:
            deadline = time.monotonic() + 120
            while (found := client.get(f"/reconstructions/{id}").json())["state"] not in ENDED:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            states[found["state"]] += 1
            if found["state"] == "succeeded":
                assert len(found["pictures"]) == 6
                archive = zipfile.ZipFile(
                    io.BytesIO(client.get(f"/reconstructions/{id}/everything.zip").content)
                )
                for name, told in json.loads(archive.read("manifest.json"))["files"].items():
                    assert hashlib.sha256(archive.read(name)).hexdigest() == told["sha256"], name
    with capsys.disabled():
        print(f"\n{KILLS} kills, {len(accepted)} accepted jobs: {states}")
    assert sum(states.values()) == len(accepted) > KILLS
    # cleared after the last end is told
    wait_until(lambda: list((tmp_path / "data" / "incoming").iterdir()) == [])


def children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for path in found for child in path.read_text().split()]


def alive(process: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX"
    return False


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_point_loses_nothing_and_leaves_nothing(
    start: Start, tmp_path: Path, point: str
) -> None:
    data, stop = tmp_path / "data", tmp_path / "stop"
    stop.mkdir()
    flags = ("--data-dir", str(data), "--refine", "cameras" if point == "refining" else "off")
    process, url = start(*flags, program="tests.service.stopping_service", STOP=str(stop))
    files = form(*room()) if point == "refining" else form(encode(make_picture()))
    headers = {"Prefer": "respond-async", "Idempotency-Key": "kitchen"}
    told: list[str] = []

    def post(url: str) -> None:
        with suppress(httpx.TransportError), httpx.Client(trust_env=False, timeout=300) as client:
            answer = client.post(f"{url}/reconstruct", files=files, headers=headers)
            assert answer.status_code in (200, 202), answer.text
            told.append(answer.json()["id"])

    if point == "removing":
        post(url)
        wait_for_success(url, told[0])
    (stop / point).touch()
    act = (lambda: remove(url, told[0])) if point == "removing" else (lambda: post(url))
    ask = threading.Thread(target=act)
    ask.start()
    wait_until((stop / "reached").exists)
    helpers = children(process.pid)
    process.kill()
    process.wait()
    ask.join()
    wait_until(lambda: not any(map(alive, helpers)))
    _, url = start(*flags)
    with httpx.Client(base_url=url, trust_env=False, timeout=300) as client:
        if point == "removing":
            assert client.get(f"/reconstructions/{told[0]}").status_code == 404
        else:
            post(url)
            assert len(set(told)) == 1, "what was accepted is the same job when it is sent again"
            wait_for_success(url, told[0])
            assert client.get(f"/reconstructions/{told[0]}/points.ply").status_code == 200
        listed = client.get("/reconstructions").json()["reconstructions"]
    assert [each["id"] for each in listed] == ([] if point == "removing" else told[:1])
    wait_until(lambda: not any((data / "incoming").iterdir()))
    assert len([*(data / "results").iterdir()]) == len(listed)


def remove(url: str, id: str) -> None:
    with suppress(httpx.TransportError):
        httpx.delete(f"{url}/reconstructions/{id}", trust_env=False, timeout=300)


def wait_for_success(url: str, id: str) -> None:
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        found: dict = {}

        def ended() -> bool:
            found.update(client.get(f"/reconstructions/{id}").json())
            return found.get("state") in ENDED

        wait_until(ended, lambda: str(found))
        assert found["state"] == "succeeded", found
