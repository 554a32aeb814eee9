from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.refined.picture_sets import on_disk, subsets, whole
from scenes.readers.folder import read_folder, write_folder
from scenes.synthetic.generator import SyntheticScenes


def test_sets_of_pictures_differ_repeat_with_their_seed_and_begin_with_the_even_spread() -> None:
    chosen = subsets(16, 4, 5, seed=0)
    assert chosen[0] == (0, 4, 8, 12)
    assert len(set(chosen)) == 5
    assert all(tuple(sorted(set(indices))) == indices for indices in chosen)
    assert chosen == subsets(16, 4, 5, seed=0)
    assert chosen != subsets(16, 4, 5, seed=1)


def test_there_are_no_more_sets_than_exist() -> None:
    assert subsets(3, 2, 10, seed=0) == [(0, 1), (0, 2), (1, 2)]
    assert subsets(4, 4, 10, seed=0) == [(0, 1, 2, 3)]
    with pytest.raises(ValueError, match="3 pictures; 4 are needed"):
        subsets(3, 4, 1, seed=0)


def test_a_rendered_scene_lies_on_disk_only_as_long_as_it_is_used() -> None:
    scene = SyntheticScenes("test", 1, 2, 24, 32, seed=0)[0]
    with on_disk(scene) as pictures:
        with Image.open(pictures.pictures[1]) as picture:
            assert picture.size == (32, 24)
            pixels = np.asarray(picture)
        assert pictures.depth is not None
        assert pictures.depth[0].shape == (24, 32)
    assert not pictures.pictures[0].exists()
    np.testing.assert_array_equal(
        pixels, (scene.images[1].movedim(0, -1) * 255).round().byte().numpy()
    )


def test_a_rendered_pixel_is_seen_by_the_sets_camera_at_the_pixels_centre() -> None:
    scene = SyntheticScenes("test", 1, 2, 24, 32, seed=0)[0]
    with on_disk(scene) as pictures:
        assert scene.depth is not None
        points = scene.world_points.double().numpy()[1]
        local = points @ pictures.extrinsics[1, :, :3].T + pictures.extrinsics[1, :, 3]
        seen = local @ pictures.intrinsics[1].T
    known = scene.depth[1].numpy() > 0
    row, column = np.mgrid[:24, :32]
    found = (seen[..., :2] / seen[..., 2:])[known]
    np.testing.assert_allclose(found, np.stack([column + 0.5, row + 0.5], -1)[known], atol=1e-3)


def test_a_recorded_folder_gives_whole_pictures_and_their_cameras(tmp_path: Path) -> None:
    scene = SyntheticScenes("test", 1, 3, 24, 32, seed=0)[0]
    write_folder(scene, tmp_path)
    pictures = whole(read_folder(tmp_path, image_size=16, patch_size=8).recordings[0])
    assert [path.name for path in pictures.pictures] == ["00.png", "01.png", "02.png"]
    np.testing.assert_allclose(pictures.intrinsics, scene.intrinsics.numpy(), rtol=1e-6)
    picked = pictures.pick([2, 0])
    assert [path.name for path in picked.pictures] == ["02.png", "00.png"]
    np.testing.assert_array_equal(picked.extrinsics, pictures.extrinsics[[2, 0]])
