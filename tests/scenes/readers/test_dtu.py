from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scenes.readers.dtu import TEST_SCANS, read_dtu
from scenes.scene import Scene


@pytest.fixture
def root(tmp_path: Path, scene: Scene, write_pictures: Callable[..., None]) -> Path:
    scan = tmp_path / "scan4"
    write_pictures(scene, [scan / "images" / f"{i:08d}.png" for i in range(4)])
    (scan / "cams").mkdir()
    (scan / "depths").mkdir()
    assert scene.depth is not None
    for i in range(4):
        extrinsic = np.concatenate([scene.extrinsics[i].double().numpy(), [[0, 0, 0, 1]]])
        blocks = [
            "\n".join(" ".join(f"{x:.9g}" for x in row) for row in matrix)
            for matrix in (extrinsic, scene.intrinsics[i].double().numpy())
        ]
        text = f"extrinsic\n{blocks[0]}\n\nintrinsic\n{blocks[1]}\n\n425.0 2.5\n"
        (scan / "cams" / f"{i:08d}_cam.txt").write_text(text)
        rows = scene.depth[i].numpy()[::-1].astype("<f4").tobytes()
        (scan / "depths" / f"{i:08d}.pfm").write_bytes(b"Pf\n36 24\n-1.0\n" + rows)
    return tmp_path


def test_a_scan_has_the_cameras_and_depth_that_its_files_say(
    root: Path, scene: Scene, grid: dict[str, int], assert_same: Callable[..., None]
) -> None:
    (found,) = read_dtu(root, **grid)
    assert (found.name, found.category, found.split) == ("scan4", "dtu", "test")
    assert_same(found, scene, relative=0)


def test_a_scan_without_depth_is_one_without_truth(
    root: Path, scene: Scene, grid: dict[str, int], assert_same: Callable[..., None]
) -> None:
    for path in (root / "scan4" / "depths").iterdir():
        path.unlink()
    (found,) = read_dtu(root, **grid)
    assert_same(found, scene, relative=None)


def test_every_test_scan_that_is_not_there_is_named(root: Path, grid: dict[str, int]) -> None:
    scenes = read_dtu(root, views=2, **grid)
    assert len(scenes) == 1
    assert len(scenes.skipped) == len(TEST_SCANS) - 1
    assert scenes.skipped[0] == ("scan1", "no camera files scan1/cams/*_cam.txt")
    assert read_dtu(root, views=5, **grid).skipped[1] == ("scan4", "4 frames; 5 are needed")


def test_a_damaged_camera_file_is_refused_by_name(root: Path, grid: dict[str, int]) -> None:
    path = root / "scan4" / "cams" / "00000002_cam.txt"
    path.write_text(path.read_text().replace("intrinsic", "0.0"))
    with pytest.raises(
        ValueError, match=r"00000002_cam\.txt: expected 'extrinsic', 16 numbers, 'intrinsic'"
    ):
        read_dtu(root, **grid)


def test_a_camera_without_its_picture_is_refused(root: Path, grid: dict[str, int]) -> None:
    (root / "scan4" / "images" / "00000001.png").unlink()
    with pytest.raises(ValueError, match="00000001: no such picture"):
        read_dtu(root, **grid)


def test_cameras_of_the_training_resolution_are_refused(root: Path, grid: dict[str, int]) -> None:
    for path in (root / "scan4" / "cams").iterdir():
        path.write_text(path.read_text().replace(" 18\n", " 4.5\n"))
    with pytest.raises(ValueError, match="made for another resolution"):
        list(read_dtu(root, **grid))


def test_a_folder_without_scans_is_refused(tmp_path: Path, grid: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="none of the 22 test scans of DTU"):
        read_dtu(tmp_path, **grid)
