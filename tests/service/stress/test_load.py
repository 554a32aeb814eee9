"""32 clients for two minutes: nothing is lost or mixed up, the queue stays bounded, health answers
throughout."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import httpx
import numpy as np
import pytest

from tests.service.pictures import encode, make_picture
from tests.service.stress.conftest import Start

pytestmark = pytest.mark.stress

CLIENTS = 32
SECONDS = 120.0
QUEUE_LIMIT = 8


class Load:
    """What all clients together have seen."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.until = time.monotonic() + SECONDS
        self.lock = threading.Lock()
        self.outcomes: Counter[str] = Counter()
        self.errors: list[str] = []
        self.health: list[float] = []
        self.deepest = 0.0

    def client(self, number: int) -> None:
        chance = random.Random(number)
        with httpx.Client(base_url=self.url, trust_env=False, timeout=120) as client:
            for turn in range(10_000):
                if time.monotonic() > self.until:
                    return
                try:
                    outcome = self.ask(client, chance, f"c{number}-{turn}")
                except Exception as error:
                    self.errors.append(repr(error))
                    continue
                with self.lock:
                    self.outcomes[outcome] += 1

    def ask(self, client: httpx.Client, chance: random.Random, name: str) -> str:
        """One request with a size and a name of its own, by which its answer is known."""
        width, count = chance.randrange(60, 160), chance.randrange(1, 4)
        pictures = [
            encode(make_picture(width, 80, seed=chance.randrange(10**9)), "JPEG")
            for _ in range(count)
        ]
        names = [f"{name}-{index}.jpg" for index in range(count)]
        files = [("images", (each, data)) for each, data in zip(names, pictures, strict=True)]
        headers = {"Prefer": "respond-async"} if chance.random() < 0.5 else {}
        answer = client.post("/reconstruct", files=files, headers=headers)
        if answer.status_code == 429:
            time.sleep(min(float(answer.headers["retry-after"]), 0.5) * chance.random())
            return "429"
        assert answer.status_code in (200, 202), answer.text
        id = answer.json()["id"]
        if chance.random() < 0.05:
            client.delete(f"/reconstructions/{id}")
            return "dismissed"
        while (found := client.get(f"/reconstructions/{id}").json())["state"] in (
            "queued",
            "running",
        ):
            time.sleep(0.1)
        assert found["state"] == "succeeded", found
        assert [picture["filename"] for picture in found["pictures"]] == names
        for picture in found["pictures"]:
            assert picture["original_size"] == {"height": 80, "width": width}
        depth = client.get(found["pictures"][-1]["depth"]["links"]["npy"])
        assert len(depth.content) == 128 + 4 * 80 * width
        return "202" if headers else "200"

    def watch(self) -> None:
        with httpx.Client(base_url=self.url, trust_env=False, timeout=60) as client:
            while time.monotonic() < self.until:
                started = time.perf_counter()
                assert client.get("/livez").status_code == 200
                self.health.append(time.perf_counter() - started)
                for line in client.get("/metrics").text.splitlines():
                    if line.startswith("quantvggt_queue_depth "):
                        self.deepest = max(self.deepest, float(line.split()[1]))
                time.sleep(0.05)


def test_32_clients_for_two_minutes(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    _, url = start("--queue-limit", str(QUEUE_LIMIT), "--keep", "1000")
    load = Load(url)
    threads = [threading.Thread(target=load.client, args=(number,)) for number in range(CLIENTS)]
    threads.append(threading.Thread(target=load.watch))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    milliseconds = 1000 * np.array(load.health)
    edges = [0, 2, 5, 10, 20, 50, 100, 200, 500, 1000, np.inf]
    counts, _ = np.histogram(milliseconds, edges)
    with capsys.disabled():
        print(
            f"\noutcomes {dict(load.outcomes)}, errors {len(load.errors)}, deepest queue "
            f"{load.deepest:.0f}"
        )
        print(
            f"health: {len(milliseconds)} answers, median {np.median(milliseconds):.1f} ms, "
            f"99 % {np.percentile(milliseconds, 99):.1f} ms, worst {milliseconds.max():.1f} "
            "ms"
        )
        for low, high, count in zip(edges, edges[1:], counts, strict=False):
            print(f"  {low:>5} to {high:>5} ms: {count}")
    assert load.errors == []
    assert load.deepest <= QUEUE_LIMIT + 1
    assert load.outcomes["200"] > 0
    assert load.outcomes["202"] > 0
