from __future__ import annotations

import dataclasses
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from model.preprocess import preprocess_images
from service.engine import Engine
from service.result import describe
from service.scene import Scene, arrays_of
from tests.service.pictures import make_picture


@pytest.fixture(scope="module")
def scene(artifact: Path) -> Scene:
    """A landscape and a portrait picture, so that both are padded."""
    engine = Engine(artifact, "cpu", 0)
    engine.load()
    pictures = [make_picture(120, 90), make_picture(90, 120)]
    batch = preprocess_images(pictures, image_size=engine.image_size, patch_size=engine.patch_size)
    reconstruction = engine.infer(batch)
    engine.close()
    document = describe(
        reconstruction,
        id="0" * 32,
        created=datetime.now(timezone.utc),
        mode="fit",
        model=engine.document(),
        timings={},
        filenames=["a.png", "b.png"],
    )
    return Scene(document, **arrays_of(reconstruction))


def test_what_lies_in_the_padding_does_not_reach_the_original_grid(scene: Scene) -> None:
    spoilt = dataclasses.replace(scene, depth=np.where(scene.mask, scene.depth, np.float32(100)))
    for index, shape in enumerate([(90, 120), (120, 90)]):
        depth = spoilt.depth_map(index, "original")
        assert depth.shape == shape
        np.testing.assert_allclose(depth, scene.depth_map(index, "original"), rtol=1e-6)
        assert depth.max() <= scene.document.pictures[index].depth.max * (1 + 1e-6)


def test_the_network_grid_has_no_data_on_padding(scene: Scene) -> None:
    np.testing.assert_array_equal(np.isnan(scene.depth_map(0, "network")), ~scene.mask[0])


def test_the_cloud_has_a_point_for_every_pixel_that_is_no_padding(scene: Scene) -> None:
    ply = scene.ply(percentile=0, max_points=None)
    assert f"element vertex {scene.mask.sum()}\n".encode() in ply
