from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refinement.camera_set import CameraSet
from refinement.photograph import Photograph

pytest.importorskip("pycolmap")

import pycolmap

from refinement.cameras.features import Workspace, extract
from refinement.cameras.pairs import match, read_matches, verify
from refinement.cameras.second_look import look_again

SIZE = 400


def workspace(folder: Path, pictures: list[Path]) -> Workspace:
    folder.mkdir()
    photographs = [Photograph(path, SIZE, SIZE) for path in pictures]
    count = len(photographs)
    cameras = CameraSet(
        extrinsics=np.tile(np.eye(3, 4), (count, 1, 1)),
        focal=np.full(count, 500.0),
        centre=np.full((count, 2), SIZE / 2),
        distortion=np.zeros(count),
        longer_side=np.full(count, SIZE),
    )
    made = Workspace(folder, photographs, [0] * count)
    made.write_pictures(cameras, [(SIZE, SIZE)] * count)
    return made


def seen_from_aside(points: np.ndarray) -> np.ndarray:
    moved = points - [1.0, 0.2, 0.1]
    return 500 * moved[:, :2] / moved[:, 2:] + SIZE / 2


def test_a_pair_whose_matches_agree_by_chance_does_not_count(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    points = random.uniform((-1, -1, 4), (1, 1, 8), (60, 3))
    first = 500 * points[:, :2] / points[:, 2:] + SIZE / 2
    views = [first, seen_from_aside(points), random.uniform(0, SIZE, (60, 2))]
    made = workspace(tmp_path / "work", [tmp_path / f"{i}.png" for i in range(3)])
    both = np.tile(np.arange(60, dtype=np.uint32)[:, None], (1, 2))
    with pycolmap.Database.open(made.database) as database:
        for image, pixels in enumerate(views, start=1):
            database.write_keypoints(image, pixels.astype(np.float32))
        for pair in ((1, 2), (1, 3), (2, 3)):
            database.write_matches(*pair, both)
    verify(made, threads=1)
    matches = read_matches(made)
    assert matches.pictures.tolist() == [[0, 1]]
    assert len(matches) >= 55


def test_a_second_look_finds_more_of_what_is_seen_from_the_side(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    spots = Image.fromarray(random.integers(0, 256, (80, 80), np.uint8), "L")
    wall = spots.resize((SIZE, SIZE), Image.Resampling.BICUBIC).convert("RGB")
    slanted = Image.new("RGB", (SIZE, SIZE))
    slanted.paste(wall.resize((SIZE // 3, SIZE), Image.Resampling.LANCZOS), (SIZE // 3, 0))
    paths = [tmp_path / "front.png", tmp_path / "side.png"]
    wall.save(paths[0])
    slanted.save(paths[1])
    made = workspace(tmp_path / "work", paths)
    extract(made, 1, lambda share: None)
    match(made, [(0, 1)], 1, lambda share: None)
    before = len(read_matches(made))
    look_again(made, workspace(tmp_path / "affine", paths), [(0, 1)], 1, lambda share: None)
    matches = read_matches(made)
    assert len(matches) > 2 * before + 20
    x, y = matches.pixel[:, 0].T
    there = np.stack((x / 3 + SIZE // 3, y), axis=1)
    assert np.median(np.linalg.norm(there - matches.pixel[:, 1], axis=1)) < 1
