"""The bundled still life, and how such a set is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scenes.readers.folder import read_folder
from scenes.scene import Scene
from scenes.still_life.cameras import HEIGHT, WIDTH, walk
from scenes.still_life.sample_set import MOST_BYTES, write_sample_set

BUNDLED = Path(__file__).parents[3] / "service" / "samples" / "still-life"


@pytest.fixture(scope="module")
def bundled() -> Scene:
    (scene,) = read_folder(BUNDLED, image_size=256, patch_size=4)
    return scene


def test_the_bundled_pictures_are_small_enough_and_of_one_size() -> None:
    pictures = sorted(BUNDLED.glob("*.jpg"))
    assert [path.name for path in pictures] == [f"{index:02d}.jpg" for index in range(8)]
    assert sum(path.stat().st_size for path in pictures) <= MOST_BYTES
    assert sum(path.stat().st_size for path in BUNDLED.glob("depth/*.png")) < 600_000
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.size == (WIDTH, HEIGHT)
            values = np.array(picture.convert("L")).astype(float)
        # neither dark nor blown out, and full of detail
        assert 60 < values.mean() < 170
        assert (values > 252).mean() < 0.03
        assert np.abs(np.diff(values, axis=1)).mean() > 3


def test_the_bundled_cameras_are_those_of_the_script() -> None:
    frames = json.loads((BUNDLED / "cameras.json").read_text())["frames"]
    cameras = [np.vstack([camera.extrinsic, [0, 0, 0, 1]]) for camera in walk(7)]
    for frame, camera in zip(frames, cameras, strict=True):
        expected = camera @ np.linalg.inv(cameras[0])
        np.testing.assert_allclose(frame["extrinsic"], expected[:3], atol=1e-8)


def test_depth_agrees_between_the_bundled_views(bundled: Scene) -> None:
    """Each pixel's point, seen from the next camera, lies at that camera's depth or behind what it
    sees; and most lie at it, within 1 %."""
    assert bundled.depth is not None
    points = bundled.world_points
    for first, second in zip(range(7), range(1, 8), strict=True):
        extrinsic, intrinsic = bundled.extrinsics[second], bundled.intrinsics[second]
        local = points[first].reshape(-1, 3) @ extrinsic[:, :3].T + extrinsic[:, 3]
        pixels = local @ intrinsic.T
        x, y = (pixels[:, :2] / pixels[:, 2:]).floor().long().unbind(1)
        height, width = bundled.depth.shape[1:]
        inside = (local[:, 2] > 0) & (x > 0) & (y > 0) & (x < width - 1) & (y < height - 1)
        x, y, depth = x[inside], y[inside], local[inside, 2]
        around = torch.stack(
            [bundled.depth[second, y + i, x + j] for i in (-1, 0, 1) for j in (-1, 0, 1)]
        )
        nearest, farthest = around.amin(0), around.amax(0)
        # nothing is seen through
        assert (depth > 0.99 * nearest).float().mean() > 0.995
        agree = (depth > 0.99 * nearest) & (depth < 1.01 * farthest)
        assert agree.float().mean() > 0.8
        closest = (around / depth - 1).abs().amin(0)
        assert closest[agree].median() < 0.002


def test_colours_agree_between_the_bundled_views(bundled: Scene) -> None:
    """Pictures and depth belong together: a point has nearly the same colour in the next view."""
    assert bundled.depth is not None
    points = bundled.world_points[3].reshape(-1, 3)
    colors = bundled.images[3].flatten(1).T
    extrinsic, intrinsic = bundled.extrinsics[4], bundled.intrinsics[4]
    local = points @ extrinsic[:, :3].T + extrinsic[:, 3]
    pixels = local @ intrinsic.T
    x, y = (pixels[:, :2] / pixels[:, 2:]).floor().long().unbind(1)
    height, width = bundled.depth.shape[1:]
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    x, y = x[inside], y[inside]
    same = (bundled.depth[4, y, x] / local[inside, 2] - 1).abs() < 0.01
    there = bundled.images[4, :, y, x].T
    assert (there - colors[inside]).abs().mean(dim=1)[same].median() < 0.04


def test_a_written_set_reads_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cameras = walk(3, views=3)
    smooth = rng.uniform(60, 200, (3, 12, 16, 3))
    pictures = [np.kron(each, np.ones((4, 4, 1))).astype(np.uint8) for each in smooth]
    depths = [rng.uniform(0.5, 3, (24, 32)) for _ in range(3)]
    depths[1][0, 0] = 0
    assert write_sample_set(tmp_path, "a test", pictures, cameras, depths) == 97
    (scene,) = read_folder(tmp_path, image_size=64, patch_size=4)
    assert scene.images.shape == (3, 3, 48, 64)
    assert scene.depth is not None
    np.testing.assert_allclose(
        scene.images[2].numpy(), pictures[2].transpose(2, 0, 1) / 255, atol=0.1
    )
    assert scene.depth[1, 0, 0] == 0
    assert abs(float(scene.depth[0, 10, 10]) - depths[0][5, 5]) < 0.51e-3
    np.testing.assert_allclose(scene.extrinsics[0], np.eye(3, 4), atol=1e-7)


def test_pictures_that_cannot_be_made_small_enough_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scenes.still_life.sample_set.MOST_BYTES", 100)
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    with pytest.raises(ValueError, match="1 pictures do not fit 100 bytes"):
        write_sample_set(tmp_path, "", [picture], walk(3, views=1), [np.ones((24, 32))])
