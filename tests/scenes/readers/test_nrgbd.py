from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenes.readers.nrgbd import SCENES, read_nrgbd
from scenes.scene import Scene
from scenes.synthetic.distribution import SceneDistribution
from scenes.synthetic.generator import SyntheticScenes

GRID = {"image_size": 48, "patch_size": 12}


@pytest.fixture(scope="module")
def room() -> Scene:
    """Seen by NRGBD's field of view, at a small size of the same shape."""
    return SyntheticScenes("test", 1, 4, 36, 48, 5, SceneDistribution(field_of_view=(60.0, 60.0)))[
        0
    ]


@pytest.fixture
def root(
    tmp_path: Path,
    room: Scene,
    write_pictures: Callable[..., None],
    camera_to_world: Callable[..., list[np.ndarray]],
) -> Path:
    folder = tmp_path / "staircase"
    write_pictures(room, [folder / "images" / f"img{i}.png" for i in range(4)])
    (folder / "depth").mkdir()
    assert room.depth is not None
    for i in range(4):
        millimetres = (room.depth[i] * 1000).round().numpy().astype(np.uint16)
        Image.fromarray(millimetres).save(folder / "depth" / f"depth{i}.png")
    opengl = np.diag([1.0, -1, -1, 1])
    lines = [
        "\n".join(" ".join(f"{x:.9g}" for x in row) for row in pose @ opengl)
        for pose in camera_to_world(room)
    ]
    (folder / "poses.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_a_room_has_the_cameras_and_depth_that_its_files_say(
    root: Path, room: Scene, assert_same: Callable[..., None]
) -> None:
    (found,) = read_nrgbd(root, **GRID)
    assert (found.name, found.category, found.split) == ("staircase", "nrgbd", "test")
    assert_same(found, room, relative=1e-6, absolute=0.00051)


def test_every_room_that_is_not_there_is_named(root: Path) -> None:
    skipped = read_nrgbd(root, views=2, **GRID).skipped
    assert [name for name, _ in skipped] == [name for name in SCENES if name != "staircase"]


def test_frames_are_in_the_order_of_their_numbers(root: Path) -> None:
    folder = root / "staircase"
    for kind, name in (("images", "img"), ("depth", "depth")):
        (folder / kind / f"{name}3.png").rename(folder / kind / f"{name}10.png")
    poses = (folder / "poses.txt").read_text().splitlines()
    (folder / "poses.txt").write_text(
        "\n".join([*poses[:12], *["nan nan nan nan"] * 28, *poses[12:]])
    )
    (recording,) = read_nrgbd(root, **GRID).recordings
    assert [frame.picture.name for frame in recording.frames] == [
        "img0.png",
        "img1.png",
        "img2.png",
        "img10.png",
    ]


def test_a_frame_without_a_pose_is_not_drawn(root: Path) -> None:
    path = root / "staircase" / "poses.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], *["nan nan nan nan"] * 4, *lines[8:]]))
    (recording,) = read_nrgbd(root, **GRID).recordings
    assert [frame.picture.name for frame in recording.frames] == [
        "img0.png",
        "img2.png",
        "img3.png",
    ]
    assert ("staircase", "3 frames; 4 are needed") in read_nrgbd(root, views=4, **GRID).skipped


def test_poses_that_do_not_fit_the_pictures_are_refused(root: Path) -> None:
    path = root / "staircase" / "poses.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:12]))
    with pytest.raises(ValueError, match=r"poses\.txt: 3 poses, but there is img3\.png"):
        read_nrgbd(root, **GRID)
    path.write_text("\n".join(lines[:15]))
    with pytest.raises(ValueError, match="expected four lines of four numbers"):
        read_nrgbd(root, **GRID)
    path.unlink()
    with pytest.raises(ValueError, match="no such file; it holds the cameras"):
        read_nrgbd(root, **GRID)


def test_a_folder_without_rooms_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="none of the 9 NRGBD scenes"):
        read_nrgbd(root / "staircase", **GRID)
