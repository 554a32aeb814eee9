from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.rotations import matrix_to_quaternion
from scenes.readers.colmap import read_colmap
from scenes.scene import Scene

PINHOLE, OPENCV = 1, 4  # COLMAP's numbers


def poses(scene: Scene) -> Tensor:
    """Quaternion w, x, y, z and translation [S,7] float64."""
    extrinsics = scene.extrinsics.double()
    x, y, z, w = matrix_to_quaternion(extrinsics[:, :, :3]).unbind(-1)
    return torch.cat([torch.stack([w, x, y, z], dim=-1), extrinsics[:, :, 3]], dim=-1)


def write_text(
    model: Path, scene: Scene, lens: str = "PINHOLE", extra: str = "", prefix: str = ""
) -> None:
    model.mkdir(parents=True, exist_ok=True)
    focal = float(scene.intrinsics[0, 0, 0])
    focals = f"{focal!r}" if lens.startswith("SIMPLE") else f"{focal!r} {focal!r}"
    (model / "cameras.txt").write_text(f"# Camera list\n7 {lens} 36 24 {focals} 18 12{extra}\n")
    lines = ["# Image list", "# two lines a picture"]
    for i, pose in reversed(list(enumerate(poses(scene).tolist()))):
        lines += [
            f"{i + 1} {' '.join(map(repr, pose))} 7 {prefix}picture {i}.png",
            "10.5 3.5 -1 2 2 9" if i else "",
        ]
    (model / "images.txt").write_text("\n".join(lines) + "\n")


def write_binary(
    model: Path, scene: Scene, lens: int = PINHOLE, distortion: tuple[float, ...] = ()
) -> None:
    model.mkdir(parents=True)
    focal = float(scene.intrinsics[0, 0, 0])
    params = (focal, focal, 18.0, 12.0, *distortion)
    camera = struct.pack(f"<iiQQ{len(params)}d", 7, lens, 36, 24, *params)
    (model / "cameras.bin").write_bytes(struct.pack("<Q", 1) + camera)
    content = struct.pack("<Q", 4)
    for i, pose in enumerate(poses(scene).tolist()):
        content += struct.pack("<i7di", i + 1, *pose, 7) + f"picture {i}.png\0".encode()
        content += struct.pack("<Q", i) + struct.pack("<ddq", 10.5, 3.5, -1) * i
    (model / "images.bin").write_bytes(content)


@pytest.fixture
def folder(tmp_path: Path, scene: Scene, write_pictures: Callable[..., None]) -> Path:
    write_pictures(scene, [tmp_path / "castle" / "images" / f"picture {i}.png" for i in range(4)])
    return tmp_path / "castle"


@pytest.mark.parametrize("lens", ["PINHOLE", "SIMPLE_PINHOLE"])
def test_a_text_model_has_the_cameras_that_it_was_written_with(
    folder: Path, scene: Scene, grid: dict[str, int], assert_same: Callable[..., None], lens: str
) -> None:
    write_text(folder / "sparse" / "0", scene, lens)
    (found,) = read_colmap(folder, **grid)
    assert (found.name, found.category, found.split) == ("castle", "colmap", "test")
    assert_same(found, scene, relative=None)


def test_a_binary_model_has_the_cameras_that_it_was_written_with(
    folder: Path, scene: Scene, grid: dict[str, int], assert_same: Callable[..., None]
) -> None:
    write_binary(folder / "sparse", scene)
    (found,) = read_colmap(folder.parent, **grid)
    assert_same(found, scene, relative=None)


def test_the_undistorted_folders_of_eth3d_are_found(
    folder: Path, scene: Scene, grid: dict[str, int], assert_same: Callable[..., None]
) -> None:
    pictures = folder / "images" / "dslr_images_undistorted"
    pictures.mkdir()
    for path in (folder / "images").glob("*.png"):
        path.rename(pictures / path.name)
    write_text(folder / "dslr_calibration_undistorted", scene, prefix="dslr_images_undistorted/")
    (folder.parent / "not unpacked").mkdir()
    scenes = read_colmap(folder.parent, **grid)
    assert_same(next(iter(scenes)), scene, relative=None)
    assert [name for name, _ in scenes.skipped] == ["not unpacked"]


def test_a_lens_whose_distortion_is_zero_is_a_pinhole(
    folder: Path, scene: Scene, grid: dict[str, int], assert_same: Callable[..., None]
) -> None:
    write_binary(folder / "sparse", scene, OPENCV, (0.0, 0.0, 0.0, 0.0))
    (found,) = read_colmap(folder, **grid)
    assert_same(found, scene, relative=None)


def test_distorted_cameras_are_refused_with_the_way_out(
    folder: Path, scene: Scene, grid: dict[str, int]
) -> None:
    write_binary(folder / "sparse", scene, OPENCV, (0.0, 1e-3, 0.0, 0.0))
    with pytest.raises(
        ValueError, match="camera 7 is a distorted OPENCV; undistort the pictures first"
    ):
        read_colmap(folder, **grid)
    write_text(folder / "sparse" / "0", scene, "OPENCV_FISHEYE", " 0 0 0 0")
    with pytest.raises(ValueError, match="distorted OPENCV_FISHEYE"):
        read_colmap(folder, **grid)


def test_frames_are_spread_over_the_pictures_in_the_order_of_their_names(
    folder: Path, scene: Scene, grid: dict[str, int]
) -> None:
    write_text(folder / "sparse", scene)
    (recording,) = read_colmap(folder, views=2, **grid).recordings
    assert [frame.picture.name for frame in recording.frames] == ["picture 0.png", "picture 2.png"]


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin"])
def test_a_binary_model_that_is_cut_short_is_refused(
    folder: Path, scene: Scene, grid: dict[str, int], name: str
) -> None:
    write_binary(folder / "sparse", scene)
    path = folder / "sparse" / name
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=f"{name}: the file is cut short"):
        read_colmap(folder, **grid)


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        ("cameras.txt", "PINHOLE", "MIRROR", "expected 'id, model, width, height, parameters'"),
        ("cameras.txt", " 18 12", " 18", "PINHOLE has 4 parameters"),
        ("cameras.txt", "7 PINHOLE", "8 PINHOLE", "has camera 7, which the model does not list"),
        ("images.txt", "10.5 3.5 -1 2 2 9\n", "", "and a second line with its points"),
        (
            "images.txt",
            " 7 picture 0",
            "",
            "expected 'id, qw, qx, qy, qz, tx, ty, tz, camera, name'",
        ),
    ],
)
def test_a_damaged_text_model_is_refused(
    folder: Path, scene: Scene, grid: dict[str, int], name: str, old: str, new: str, sentence: str
) -> None:
    write_text(folder / "sparse", scene)
    path = folder / "sparse" / name
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=sentence):
        read_colmap(folder, **grid)


def test_a_model_of_mixed_formats_or_none_at_all_is_refused(
    folder: Path, scene: Scene, grid: dict[str, int]
) -> None:
    with pytest.raises(
        ValueError, match=r"neither this folder nor a folder in it holds sparse/0/cameras\.bin"
    ):
        read_colmap(folder, **grid)
    write_text(folder / "sparse", scene)
    (folder / "sparse" / "images.txt").unlink()
    with pytest.raises(ValueError, match=r"images\.txt: no such file"):
        read_colmap(folder, **grid)
