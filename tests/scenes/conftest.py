"""A small scene with known cameras and depth, written to disk by each test in a data set's own
format."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scenes.scene import Scene
from scenes.synthetic.generator import SyntheticScenes

GRID = {"image_size": 36, "patch_size": 12}


@pytest.fixture(scope="session")
def scene() -> Scene:
    return SyntheticScenes("test", 1, 4, 24, 36, seed=5)[0]


@pytest.fixture(scope="session")
def grid() -> dict[str, int]:
    """The network grid on which `scene` needs no resizing."""
    return GRID


@pytest.fixture(scope="session")
def write_pictures() -> Callable[[Scene, Iterable[Path]], None]:
    """Writes the scene's frames without loss to the given paths."""

    def write(scene: Scene, paths: Iterable[Path]) -> None:
        for image, path in zip(scene.images, paths, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image.movedim(0, -1) * 255).round().byte().numpy()).save(path)

    return write


@pytest.fixture(scope="session")
def assert_same() -> Callable[..., None]:
    """Pictures to a grey level, cameras to float32, depth to `relative` (None: there must be
    none)."""

    def compare(
        found: Scene, true: Scene, *, relative: float | None, absolute: float = 0.0
    ) -> None:
        assert (found.images - true.images).abs().max() <= 0.5 / 255 + 1e-6
        torch.testing.assert_close(found.extrinsics, true.extrinsics, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.intrinsics, true.intrinsics, rtol=1e-6, atol=1e-5)
        if relative is None:
            assert found.depth is None
        else:
            assert true.depth is not None
            torch.testing.assert_close(found.depth, true.depth, rtol=relative, atol=absolute)

    return compare


@pytest.fixture(scope="session")
def camera_to_world() -> Callable[[Scene], list[np.ndarray]]:
    """Poses [4,4] in float64, the inverse of the scene's extrinsics."""

    def invert(scene: Scene) -> list[np.ndarray]:
        bottom = np.array([[0.0, 0, 0, 1]])
        return [
            np.linalg.inv(np.concatenate([e.double().numpy(), bottom])) for e in scene.extrinsics
        ]

    return invert
