from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluation.pose_metrics import relative_pose_errors
from evaluation.refined.picture_sets import PictureSet, on_disk
from evaluation.refined.simulated import LEVELS, simulate
from model import families
from model.families.vggt.presets import PRESETS
from model.reconstruct import reconstruct
from model.scene.reconstruction import Reconstruction
from scenes.synthetic.generator import SyntheticScenes


@pytest.fixture(scope="module")
def scene() -> Iterator[tuple[PictureSet, Reconstruction]]:
    torch.manual_seed(0)
    net = families.of(PRESETS["demo"]).build(PRESETS["demo"]).eval()
    with on_disk(SyntheticScenes("test", 1, 6, 60, 80, seed=1)[0]) as pictures:
        yield pictures, reconstruct(net, pictures.pictures)


def test_errors_grow_with_the_level_and_repeat_with_the_seed(
    scene: tuple[PictureSet, Reconstruction],
) -> None:
    pictures, base = scene
    true = torch.from_numpy(pictures.extrinsics)
    medians = []
    for level in LEVELS:
        found = simulate(pictures, base, level, seed=0)
        rotation, translation = relative_pose_errors(found.extrinsics.double(), true)
        medians.append((float(rotation.median()), float(translation.median())))
        again = simulate(pictures, base, level, seed=0)
        assert torch.equal(found.extrinsics, again.extrinsics)
        assert not torch.equal(found.extrinsics, simulate(pictures, base, level, seed=1).extrinsics)
    assert medians == sorted(medians)
    assert 0.3 < medians[0][0] < 2.0
    assert 3.0 < medians[3][0] < 15.0


def test_depth_is_nearly_the_true_one_and_lies_where_the_network_looks(
    scene: tuple[PictureSet, Reconstruction],
) -> None:
    pictures, base = scene
    found = simulate(pictures, base, "p1", seed=0)
    assert found.depth.shape == base.depth.shape
    assert pictures.depth is not None
    true = torch.from_numpy(pictures.depth[2])
    share = (found.original_depth(2) - true).abs() / true
    assert float(share.median()) < 0.08


def test_without_true_depth_every_picture_has_one_depth(
    scene: tuple[PictureSet, Reconstruction],
) -> None:
    pictures, base = scene
    blind = PictureSet(
        pictures.name, "", pictures.pictures, pictures.extrinsics, pictures.intrinsics
    )
    found = simulate(blind, base, "p2", seed=0)
    for depth in found.depth:
        assert float(depth.min()) == float(depth.max()) > 0
    assert np.isfinite(found.world_points.numpy()).all()


def test_true_depth_may_have_a_smaller_grid_than_the_pictures(
    scene: tuple[PictureSet, Reconstruction],
) -> None:
    pictures, base = scene
    assert pictures.depth is not None
    columns = np.arange(80, dtype=np.float32) // 4 + 1  # the same for all pixels of a smaller grid
    full = tuple(np.tile(columns, (60, 1)) for _ in pictures.depth)
    small = tuple(depth[::4, ::4] for depth in full)
    found = [simulate(replace(pictures, depth=d), base, "p2", seed=0).depth for d in (full, small)]
    assert torch.equal(*found)


def test_a_picture_without_known_depth_has_one_depth_beside_others_that_have_theirs(
    scene: tuple[PictureSet, Reconstruction],
) -> None:
    pictures, base = scene
    assert pictures.depth is not None
    holes = (np.zeros_like(pictures.depth[0]), *pictures.depth[1:])
    found = simulate(replace(pictures, depth=holes), base, "p2", seed=0)
    assert float(found.depth[0].min()) == float(found.depth[0].max()) > 0
    assert float(found.depth[1].min()) < float(found.depth[1].max())
