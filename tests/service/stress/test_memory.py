"""Eight flat pictures of 49 megapixels, a small upload, and all their maps asked for at once: the
memory of the service stays within what it may take."""

from __future__ import annotations

import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.service.stress.conftest import Start

pytestmark = pytest.mark.stress

SIDE, PICTURES = 7000, 8
BUDGET = 2 * 2**30
MAPS = ("png", "npy", "exr", "preview")


def memory(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise AssertionError(name)


def test_48_maps_of_huge_pictures_at_once_stay_within_the_memory_budget(
    start: Start, tmp_path: Path
) -> None:
    process, url = start("--memory-budget", str(BUDGET), "--data-dir", str(tmp_path))
    before = memory(process.pid, "VmRSS")
    flat = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (90, 120, 150)).save(flat, "PNG", compress_level=1)
    with httpx.Client(base_url=url, trust_env=False, timeout=600) as client:
        files = [("images", (f"{i}.png", flat.getvalue(), "image/png")) for i in range(PICTURES)]
        answer = client.post("/reconstruct", files=files)
        assert answer.status_code == 200, answer.text
        links = [
            link
            for picture in answer.json()["pictures"]
            for link in (
                *(picture["depth"]["links"][name] for name in MAPS),
                picture["links"]["confidence"],
                picture["links"]["confidence_preview"],
            )
        ]
        assert len(links) == 48
        refused = 0

        def fetch(link: str) -> int:
            nonlocal refused
            while True:
                with client.stream("GET", link) as given:
                    if given.status_code != 503:
                        return given.status_code
                    refused += 1
                    time.sleep(float(given.headers["retry-after"]))

        with ThreadPoolExecutor(48) as pool:
            assert set(pool.map(fetch, links)) == {200}
        assert refused  # it said so, and did not pile up
        assert client.get("/livez").status_code == 200
    assert memory(process.pid, "VmHWM") < before + BUDGET
