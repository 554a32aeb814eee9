"""A walk of a thousand pictures sent to the demo model: it is killed in the middle and goes on, it
stays within its memory, and it can be cancelled."""

from __future__ import annotations

import io
import signal
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from PIL import Image

from model.files.artifact import save
from model.files.checkpoint import load_checkpoint
from quantization.convert import quantize_network
from quantization.recipe import Recipe
from scenes.synthetic.walk import walk
from tests.service.pictures import encode, form
from tests.service.running import wait_until
from tests.service.stress.conftest import Start
from tests.service.stress.test_memory import memory

pytestmark = pytest.mark.stress

FRAMES, LAP = 1000, 250
MOST_BYTES = 4 * 2**30
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled demo model."""
    path = tmp_path_factory.mktemp("model") / "demo"
    save(
        quantize_network(load_checkpoint("demo"), Recipe()), path, provenance={"checkpoint": "demo"}
    )
    return path


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    scene = walk(6, FRAMES, LAP, size=96)
    pixels = (scene.images.movedim(1, -1) * 255).round().to(torch.uint8).numpy()
    return [encode(Image.fromarray(frame)) for frame in pixels]


def finished_passes(data: Path) -> set[str]:
    return {path.name for path in data.glob("incoming/*/chunk-*.safetensors")}


def state(client: httpx.Client, id: str) -> Any:
    return client.get(f"/reconstructions/{id}").json()


def test_a_thousand_pictures_survive_a_kill_within_four_gibibytes(
    start: Start, pictures: list[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def begin() -> tuple[subprocess.Popen[str], httpx.Client]:
        process, url = start("--data-dir", str(tmp_path))
        return process, httpx.Client(base_url=url, trust_env=False, timeout=900)

    began = time.monotonic()
    first, client = begin()
    with client:
        answer = client.post("/reconstruct", files=form(*pictures), headers=ASYNC)
        assert answer.status_code == 202, answer.text
        id = answer.json()["id"]
        accepted = time.monotonic() - began
        wait_until(lambda: len(finished_passes(tmp_path)) >= 4)
        peak = memory(first.pid, "VmHWM")
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = finished_passes(tmp_path)

    second, client = begin()
    with client:
        limit = time.monotonic() + 900
        while (found := state(client, id))["state"] in ("queued", "running"):
            assert time.monotonic() < limit
            time.sleep(0.2)
        assert found["state"] == "succeeded", found
        seconds = time.monotonic() - began
        run = found["run"]
        assert run["resumed_passes"] >= len(kept) >= 4
        assert (run["passes"], run["chunk_frames"], run["shared_frames"]) == (16, 96, 32)
        assert len(found["pictures"]) == FRAMES
        cloud = client.get(found["links"]["points"], params={"max_points": 200_000}).content
        assert b"element vertex 200000\n" in cloud[:200]
        transforms = client.get(found["links"]["transforms"]).json()
        assert len(transforms["frames"]) == FRAMES
        colmap = client.get(found["links"]["colmap"], params={"max_points": 20_000}).content
        with zipfile.ZipFile(io.BytesIO(colmap)) as model:
            images = next(name for name in model.namelist() if name.endswith("images.bin"))
            assert int.from_bytes(model.read(images)[:8], "little") == FRAMES

        again = client.post(
            "/reconstruct", files=form(*pictures), data={"passes": "95"}, headers=ASYNC
        ).json()["id"]
        wait_until(lambda: len(finished_passes(tmp_path)) >= 1)
        asked = time.monotonic()
        assert client.delete(f"/reconstructions/{again}").status_code == 202
        wait_until(lambda: state(client, again)["state"] == "cancelled")
        cancelled = time.monotonic() - asked
        wait_until(lambda: not list(tmp_path.glob("incoming/*")))
        peak = max(peak, memory(second.pid, "VmHWM"))
    with capsys.disabled():
        print(
            f"\n{FRAMES} pictures accepted after {accepted:.0f} s, done after {seconds:.0f} s with "
            f"a kill behind {len(kept)} passes, peak {peak / 2**20:.0f} MiB, cancelled within "
            f"{cancelled:.1f} s; predicted {run['predicted_seconds']} s, measured "
            f"{run['measured_seconds']} s, loops {run['loops']}"
        )
    assert peak < MOST_BYTES
    assert cancelled < 5
