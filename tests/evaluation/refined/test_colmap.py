from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.pose_metrics import pose_auc, relative_pose_errors
from evaluation.refined.colmap import solve
from evaluation.refined.picture_sets import on_disk
from scenes.synthetic.generator import SyntheticScenes

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pycolmap") is None, reason="pycolmap is not installed"
)


def test_colmap_places_the_pictures_of_a_room() -> None:
    with on_disk(SyntheticScenes("test", 1, 4, 384, 384, seed=0)[0]) as pictures:
        found = solve(pictures.pictures)
    assert found.placed.all()
    rotation, translation = relative_pose_errors(
        torch.from_numpy(found.extrinsics), torch.from_numpy(pictures.extrinsics)
    )
    assert pose_auc(rotation, translation, 5) > 90
    np.testing.assert_allclose(found.intrinsics[:, 0, 0], pictures.intrinsics[:, 0, 0], rtol=0.05)


def test_pictures_that_show_nothing_get_no_camera(tmp_path: Path) -> None:
    paths = []
    for i in range(3):
        paths.append(tmp_path / f"{i}.png")
        Image.new("RGB", (64, 48)).save(paths[-1])
    found = solve(paths)
    assert not found.placed.any()
    assert found.extrinsics.shape == (3, 3, 4)
