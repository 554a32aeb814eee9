"""A walk round a room that comes back to where it began, sent to a service with the trained demo
model."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model.files.artifact import save
from model.files.checkpoint import load_checkpoint
from model.scene.preprocess import PreprocessedImages
from model.scene.similarity import camera_centres, fit_cameras
from quantization.convert import quantize_network
from quantization.recipe import Recipe
from scenes.scene import Scene
from scenes.synthetic.walk import walk
from service.errors import OutOfMemory
from service.inference.engine import Engine
from service.inference.network_pass import Pass
from service.jobs import worker
from service.storage.arrays import mapped
from tests.service.pictures import encode, form
from tests.service.running import Running, Serve, wait_until

FRAMES, LAP = 36, 30


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled demo model."""
    path = tmp_path_factory.mktemp("model") / "demo"
    save(
        quantize_network(load_checkpoint("demo"), Recipe()), path, provenance={"checkpoint": "demo"}
    )
    return path


@pytest.fixture(scope="module")
def scene() -> Scene:
    return walk(6, FRAMES, LAP, size=96)


@pytest.fixture(scope="module")
def pictures(scene: Scene) -> list[bytes]:
    pixels = (scene.images.movedim(1, -1) * 255).round().to(torch.uint8).numpy()
    return [encode(Image.fromarray(frame)) for frame in pixels]


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve(pass_frames=8, max_images=FRAMES)


def reconstruct(service: Running, pictures: list[bytes], **options: str) -> dict[str, Any]:
    answer = service.client.post("/reconstruct", files=form(*pictures), data=options)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def extrinsics(result: dict[str, Any]) -> torch.Tensor:
    return torch.tensor(
        [picture["extrinsic"] for picture in result["pictures"]], dtype=torch.float64
    )


def error(result: dict[str, Any], scene: Scene) -> float:
    """Root mean square distance of the camera centres from the true ones, metres."""
    predicted, true = extrinsics(result), scene.extrinsics.double()
    centres = camera_centres(fit_cameras(predicted, true).move_extrinsics(predicted))
    return float((centres - camera_centres(true)).square().sum(-1).mean().sqrt())


def test_coming_back_to_a_place_takes_back_what_the_way_there_drifted(
    service: Running, pictures: list[bytes], scene: Scene
) -> None:
    opened = reconstruct(service, pictures, close_loops="false")
    closed = reconstruct(service, pictures)
    assert opened["run"]["loops"] == []
    true = [loop for loop in closed["run"]["loops"] if loop["closed"]]
    assert true
    for loop in true:
        first, second = loop["pictures"]
        assert second - first > LAP / 2
        assert loop["residual"] < 0.2
    assert error(closed, scene) < 0.85 * error(opened, scene)
    assert closed["run"]["passes"] == opened["run"]["passes"]


def test_a_way_that_never_comes_back_is_what_it_was_bit_for_bit(
    service: Running, pictures: list[bytes]
) -> None:
    quarter = pictures[:12]
    opened, closed = (
        reconstruct(service, quarter, close_loops="false"),
        reconstruct(service, quarter),
    )
    assert closed["run"]["loops"] == []
    assert closed["id"] != opened["id"]
    for a, b in zip(opened["pictures"], closed["pictures"], strict=True):
        assert a["extrinsic"] == b["extrinsic"]
    folders = [service.result_folder(result["id"]) for result in (opened, closed)]
    assert np.array_equal(*(mapped(folder)["depth"] for folder in folders))


class Watched(Engine):
    """Notes its passes; those after the chunks can be made to fail or to wait."""

    sizes: list[int]
    chunks = 6  # passes that the chunks of the walk take
    fail = wait = False

    def infer(
        self, batch: PreprocessedImages, observer: Any = lambda stage, share: None, *rest: Any
    ) -> Pass:
        self.sizes = [*getattr(self, "sizes", []), len(batch.images)]
        if len(self.sizes) > self.chunks and self.fail:
            raise OutOfMemory("no room")
        while len(self.sizes) > self.chunks and self.wait:
            observer("aggregator", 0.5)
        return super().infer(batch, observer, *rest)


@pytest.fixture
def watched(serve: Serve) -> Running:
    return serve(Watched, pass_frames=8, max_images=FRAMES)


def test_no_extra_pass_is_larger_than_a_chunk_and_one_that_fails_costs_only_its_loop(
    watched: Running, pictures: list[bytes]
) -> None:
    watched.engine.fail = True
    result = reconstruct(watched, pictures)
    assert len(watched.engine.sizes) > watched.engine.chunks
    assert max(watched.engine.sizes) == 8
    assert result["run"]["loops"] == []
    assert result["run"]["passes"] == watched.engine.chunks


@pytest.fixture
def looking(watched: Running, pictures: list[bytes]) -> str:
    """The id of a reconstruction that stays in its first extra pass until it is stopped."""
    watched.engine.wait = True
    headers = {"Prefer": "respond-async"}
    id = watched.client.post("/reconstruct", files=form(*pictures), headers=headers).json()["id"]
    wait_until(lambda: watched.client.get(f"/reconstructions/{id}").json()["stage"] == "loops")
    return id


def test_extra_passes_are_told_as_progress_and_can_be_cancelled(
    watched: Running, looking: str
) -> None:
    assert 0.5 < watched.client.get(f"/reconstructions/{looking}").json()["progress"] < 0.95
    watched.client.delete(f"/reconstructions/{looking}")
    watched.wait_for_state(looking, "cancelled")


def test_the_deadline_holds_within_extra_passes(
    watched: Running, looking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "clock", SimpleNamespace(now=lambda: time.time() + 1e6))
    failed = watched.wait_for_state(looking, "failed")
    assert "in stage loops" in failed["problem"]["detail"]
