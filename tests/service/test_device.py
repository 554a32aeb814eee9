"""A device that fails: the service says so, ends, and the job is done again by the next process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from quantvggt.client import Client
from service.inference.engine import Engine
from service.inference.network_pass import Pass
from tests.service.failing_service import FailingEngine
from tests.service.pictures import encode, form, make_picture
from tests.service.running import Running, Serve, problem, wait_until

ASYNC = {"Prefer": "respond-async"}


def scene(seed: int = 0) -> list[tuple[str, tuple[str, bytes, str]]]:
    return form(*(encode(make_picture(seed=seed + number)) for number in range(2)))


def ended(broken: Running) -> None:
    wait_until(lambda: broken.application.failure is not None)
    broken.stop()


def test_a_lost_device_is_told_and_the_next_process_does_the_job(
    serve: Serve, tmp_path: Path
) -> None:
    broken = serve(FailingEngine, data_dir=tmp_path)
    id = broken.client.post("/reconstruct", files=scene(), headers=ASYNC).json()["id"]
    wait_until(lambda: broken.client.get("/readyz").status_code == 503)
    detail = problem(broken.client.get("/readyz"), 503, "draining")["detail"]
    assert detail == (
        "The service ends: The device cpu can't be used any more: CUDA error: an illegal memory "
        "access was encountered."
    )
    assert broken.metric("quantvggt_ready") == 0
    problem(broken.client.post("/reconstruct", files=scene(9)), 503, "draining")
    assert broken.client.get(f"/reconstructions/{id}").json()["state"] == "running"
    broken.stop()
    again = serve(data_dir=tmp_path)
    assert again.wait_for_state(id, "succeeded", "failed")["state"] == "succeeded"


def test_a_job_that_breaks_every_device_is_given_up(serve: Serve, tmp_path: Path) -> None:
    first = serve(FailingEngine, data_dir=tmp_path)
    id = first.client.post("/reconstruct", files=scene(), headers=ASYNC).json()["id"]
    ended(first)
    for _ in range(2):
        ended(serve(FailingEngine, wait=False, data_dir=tmp_path))
    again = serve(data_dir=tmp_path)
    failed = again.wait_for_state(id, "failed")
    assert failed["problem"]["type"] == "/problems/interrupted"


class Exhausted(Engine):
    """No pass finds memory."""

    def _infer(self, *arguments: Any) -> Pass:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_memory_that_runs_out_job_after_job_ends_the_service(serve: Serve) -> None:
    service = serve(Exhausted)
    for seed in range(3):
        assert service.client.get("/readyz").status_code == 200
        problem(service.client.post("/reconstruct", files=scene(seed)), 503, "out-of-memory")
    detail = problem(service.client.get("/readyz"), 503, "draining")["detail"]
    assert detail == "The service ends: 3 jobs in turn ran out of memory on cpu."


def test_the_process_ends_by_itself_with_a_status_that_has_it_started_again(
    artifact: Path, tmp_path: Path
) -> None:
    command = [
        *(sys.executable, "-m", "tests.service.failing_service", "serve", "--json"),
        *("--artifact", str(artifact), "--data-dir", str(tmp_path), "--port", "0"),
        *("--shutdown-timeout", "5"),
    ]
    process = subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        Client(url).wait_until_ready(120)
        httpx.post(f"{url}/reconstruct", files=scene(), headers=ASYNC, trust_env=False)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode not in (0, None)
    assert "can't be used any more: CUDA error: an illegal memory access" in errors


def test_a_stop_that_may_cut_off_a_pass_is_told_at_the_start(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    serve(shutdown_timeout=0)
    assert "is begun again by the next process" in caplog.text
