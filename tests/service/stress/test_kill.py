"""kill -9 in mid-job, ten times: every accepted job ends in a result or a reported failure, and no
file is corrupt."""

from __future__ import annotations

import hashlib
import io
import json
import random
import signal
import time
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.service.pictures import encode, form, make_picture
from tests.service.running import wait_until
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
