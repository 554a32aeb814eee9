from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scenes.readers.folder import read_folder, write_folder
from scenes.scene import Scene
from scenes.synthetic.generator import SyntheticScenes

SAMPLES = Path(__file__).parents[3] / "service" / "samples"


def test_a_scene_is_written_with_its_cameras_in_the_first_ones_frame(tmp_path: Path) -> None:
    scene = SyntheticScenes("test", 1, 3, 24, 36, seed=5)[0]
    write_folder(scene, tmp_path)
    frames = json.loads((tmp_path / "cameras.json").read_text())["frames"]
    assert [frame["file"] for frame in frames] == ["00.png", "01.png", "02.png"]
    np.testing.assert_allclose(frames[0]["extrinsic"], np.eye(4)[:3], atol=1e-6)
    normalised = scene.normalised()
    for i, frame in enumerate(frames):
        assert (frame["height"], frame["width"]) == (24, 36)
        torch.testing.assert_close(torch.tensor(frame["extrinsic"]), normalised.extrinsics[i])
        with Image.open(tmp_path / frame["file"]) as picture:
            pixels = torch.from_numpy(np.array(picture)).movedim(-1, 0) / 255
        assert (pixels - scene.images[i]).abs().max() <= 0.5 / 255 + 1e-6


def test_the_bundled_samples_can_be_rendered_again(tmp_path: Path) -> None:
    write_folder(SyntheticScenes("test", 1, 4, 384, 384, seed=3)[0], tmp_path)
    bundled, again = (
        json.loads((folder / "cameras.json").read_text()) for folder in (SAMPLES, tmp_path)
    )
    assert bundled["description"] == again["description"]
    for mine, theirs in zip(bundled["frames"], again["frames"], strict=True):
        np.testing.assert_allclose(mine["extrinsic"], theirs["extrinsic"], atol=1e-5)
        with (
            Image.open(SAMPLES / mine["file"]) as first,
            Image.open(tmp_path / theirs["file"]) as second,
        ):
            difference = np.abs(np.array(first).astype(int) - np.array(second))
        # another machine may round a texture's edge the other way
        assert (difference > 2).mean() < 0.001


def test_pictures_of_16_bits_are_evaluated_like_those_of_8(
    tmp_path: Path, scene: Scene, grid: dict[str, int]
) -> None:
    found = []
    for bits in (8, 16):
        folder = tmp_path / str(bits)
        write_folder(scene, folder)
        for path in folder.glob("*.png"):
            with Image.open(path) as picture:
                grey = np.array(picture.convert("L"))
            Image.fromarray(grey if bits == 8 else grey.astype(np.uint16) * 257).save(path)
        (read,) = read_folder(folder, **grid)
        found.append(read.images)
    assert torch.equal(*found)
    assert found[0].std() > 0.05


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    described = json.loads((folder / "cameras.json").read_text())
    change(described)
    (folder / "cameras.json").write_text(json.dumps(described))


def test_a_folder_reads_back_as_the_scene_that_was_written(
    tmp_path: Path, scene: Scene, grid: dict[str, int], assert_same: Callable[..., None]
) -> None:
    write_folder(scene, tmp_path / "room")
    (found,) = read_folder(tmp_path / "room", **grid)
    assert (found.name, found.category, found.split) == ("room", "folder", "test")
    assert_same(found, scene.normalised(), relative=None)


def test_depth_is_read_where_a_frame_names_it(
    tmp_path: Path, scene: Scene, grid: dict[str, int], assert_same: Callable[..., None]
) -> None:
    scene = scene.normalised()
    write_folder(scene, tmp_path)
    assert scene.depth is not None
    for i, depth in enumerate(scene.depth):
        np.save(tmp_path / f"{i}.npy", depth.numpy())
    edit(
        tmp_path, lambda d: [frame.update(depth=f"{i}.npy") for i, frame in enumerate(d["frames"])]
    )
    (found,) = read_folder(tmp_path, **grid)
    assert_same(found, scene, relative=0)


def test_folders_without_cameras_or_with_too_few_frames_are_named(
    tmp_path: Path, scene: Scene, grid: dict[str, int]
) -> None:
    write_folder(scene, tmp_path / "room")
    (tmp_path / "empty").mkdir()
    assert read_folder(tmp_path, views=2, **grid).skipped == (("empty", "no cameras.json"),)
    assert read_folder(tmp_path, views=5, **grid).skipped[1] == ("room", "4 frames; 5 are needed")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.pop("frames"), "expected 'frames', each with file, width"),
        (lambda d: d["frames"][1].pop("intrinsic"), "KeyError\\('intrinsic'\\)"),
        (
            lambda d: d["frames"][1]["extrinsic"].append([0, 0, 0, 1]),
            r"01\.png has an extrinsic \[4, 4\]",
        ),
        (lambda d: d["frames"][1].update(file="none.png"), r"none\.png: no such picture"),
        (
            lambda d: d["frames"][1].update(width=24, height=36),
            r"01\.png is 36x24 pixels; expected 24x36",
        ),
        (lambda d: d["frames"][1].update(depth="none.npy"), r"none\.npy: no such depth map"),
    ],
)
def test_a_damaged_folder_is_refused_by_name(
    tmp_path: Path,
    scene: Scene,
    grid: dict[str, int],
    change: Callable[[dict[str, Any]], object],
    sentence: str,
) -> None:
    write_folder(scene, tmp_path)
    edit(tmp_path, change)
    with pytest.raises(ValueError, match=sentence):
        list(read_folder(tmp_path, **grid))


@pytest.mark.skipif(
    "TEST_PHOTOS" not in os.environ, reason="TEST_PHOTOS names no folder of real photographs"
)
def test_real_photographs_come_with_their_cameras() -> None:
    (found,) = read_folder(Path(os.environ["TEST_PHOTOS"]) / "fox", image_size=96, patch_size=12)
    assert found.images.shape == (16, 3, 96, 48)  # of 960x540 pixels, in whole patches
    assert 0.4 < found.images.mean() < 0.7
    torch.testing.assert_close(
        found.intrinsics[0, :2, 2], torch.tensor([277.279 * 48 / 540, 482.634 * 96 / 960])
    )
    rotations = found.extrinsics[:, :, :3]
    torch.testing.assert_close(
        rotations @ rotations.mT, torch.eye(3).expand(16, 3, 3), atol=1e-4, rtol=0
    )
