"""A service under test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from model.scene.preprocess import PreprocessedImages
from service.application import Application
from service.inference.cost import Cost, CostModel
from service.inference.engine import Engine
from service.inference.network_pass import Pass

PATIENCE = 120.0  # for what comes at once unless the machine has other work, too


@dataclass
class Running:
    """A service in this process, behind a real socket."""

    client: httpx.Client
    application: Application
    port: int
    data_dir: Path
    stop: Callable[[], None]

    @property
    def engine(self) -> Any:
        """The engine, of whatever class the test gave."""
        return self.application.models.usual

    def metric(self, line: str) -> float:
        """The value on the line of /metrics that starts with `line` and a blank."""
        for text in self.client.get("/metrics").text.splitlines():
            if text.startswith(line + " "):
                return float(text.rsplit(" ", 1)[1])
        raise AssertionError(f"no metric {line}")

    def result_folder(self, id: str) -> Path:
        """Where the result of a reconstruction lies."""
        job = self.application.store.get(id)
        assert job is not None
        return self.data_dir / "results" / job.result

    def wait_for_state(self, id: str, *states: str) -> dict:
        """The document of a reconstruction once it is in one of `states`."""
        found: dict = {}

        def arrived() -> bool:
            nonlocal found
            found = self.client.get(f"/reconstructions/{id}").json()
            return found["state"] in states

        wait_until(arrived, lambda: f"{id} is {found}")
        return found


def wait_until(condition: Callable[[], bool], explain: Callable[[], str] = lambda: "") -> None:
    """Poll until `condition` holds; fails after a while."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.01)


def problem(answer: httpx.Response, status: int, slug: str) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["type"] == f"/problems/{slug}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert "Traceback" not in answer.text
    return document


class Gate(Engine):
    """Holds every pass back until it is opened, and counts how many run at once."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.opened, self.entered = threading.Event(), threading.Event()
        self.at_once = self.most_at_once = self.calls = 0

    def infer(
        self, batch: PreprocessedImages, observer: Any = lambda stage, share: None, *rest: Any
    ) -> Pass:
        self.calls += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.entered.set()
        try:
            while not self.opened.wait(0.01):
                observer("aggregator", 0.5)  # a pass that goes on and can be stopped
            return super().infer(batch, observer, *rest)
        finally:
            self.at_once -= 1


class Tight(Engine):
    """A budget of less than one frame of 96 x 72 pixels; what passes cost is stated, not
    measured."""

    def load(self) -> None:
        super().load()
        self.planner.model = model = CostModel(self.patch_size, special_tokens=5)
        for frames in (1, 2, 4):
            tokens = model.tokens(frames, 96, 96)
            model.calibrate(frames, 96, 96, Cost(10_000 * tokens, 1e-4 * tokens))
        model.observe = lambda *cost: None  # type: ignore[method-assign]
        self.planner.budget = int(0.7 * model.predict(1, 72, 96).bytes)


Serve = Callable[..., Running]
