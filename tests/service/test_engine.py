from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest
import torch

from model import VGGT
from model.artifact import save
from model.errors import ArtifactError
from model.preprocess import preprocess_images
from model.presets import PRESETS
from quantization.convert import quantize_network
from quantization.recipe import Recipe
from service.engine import Engine
from service.problems import NotReady, QueueFull
from tests.service.pictures import make_picture


def test_a_network_without_a_camera_head_is_refused_before_loading(tmp_path: Path) -> None:
    config = dataclasses.replace(PRESETS["demo"], depth=1, camera_head=None, depth_head=None, point_head=None)
    save(quantize_network(VGGT(config), Recipe()), tmp_path / "headless")
    with pytest.raises(ArtifactError, match="without camera and depth head"):
        Engine(tmp_path / "headless", "cpu", 0)


def test_the_digest_follows_the_weights(artifact: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    save(quantize_network(VGGT(PRESETS["demo"]), Recipe()), tmp_path / "other")
    digests = [Engine(path, "cpu", 0).digest for path in (artifact, artifact, tmp_path / "other")]
    assert digests[0] == digests[1] != digests[2]


def test_places_are_bounded_and_given_back_after_an_error(artifact: Path) -> None:
    engine = Engine(artifact, "cpu", 0)
    with pytest.raises(NotReady), engine.admit():
        pass
    engine.load()
    with engine.admit(), pytest.raises(QueueFull), engine.admit():
        pass
    with pytest.raises(KeyError), engine.admit():
        raise KeyError
    with engine.admit():
        assert engine.admitted == 1
    engine.close()


def test_work_that_is_cancelled_while_it_waits_never_runs(artifact: Path) -> None:
    engine = Engine(artifact, "cpu", 1)
    engine.load()
    batch = preprocess_images([make_picture()], image_size=engine.image_size, patch_size=engine.patch_size)

    async def run() -> None:
        first = engine.run(batch)
        second = asyncio.ensure_future(engine.run(batch))
        second.cancel()
        assert (await first).reconstruction.depth.shape == (1, 72, 96)
        with pytest.raises(asyncio.CancelledError):
            await second

    asyncio.run(run())
    engine.close()
