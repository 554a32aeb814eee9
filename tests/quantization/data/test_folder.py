from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from quantization.data.folder import write_folder
from quantization.data.synthetic import SyntheticScenes

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
    bundled, again = (json.loads((folder / "cameras.json").read_text()) for folder in (SAMPLES, tmp_path))
    assert bundled["description"] == again["description"]
    for mine, theirs in zip(bundled["frames"], again["frames"], strict=True):
        np.testing.assert_allclose(mine["extrinsic"], theirs["extrinsic"], atol=1e-5)
        with Image.open(SAMPLES / mine["file"]) as first, Image.open(tmp_path / theirs["file"]) as second:
            difference = np.abs(np.array(first).astype(int) - np.array(second))
        assert (difference > 2).mean() < 0.001  # another machine may round a texture's edge the other way
