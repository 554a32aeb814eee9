from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scenes.readers.recording import (
    Frame,
    RecordedScenes,
    Recording,
    UnusableSceneError,
    scene_folders,
    spread,
    world_to_camera,
)

EXTRINSIC = np.eye(4)[:3]
INTRINSIC = np.array([[30.0, 0, 18], [0, 30, 12], [0, 0, 1]])


@pytest.fixture
def frame(tmp_path: Path) -> Frame:
    path = tmp_path / "a.png"
    Image.new("RGB", (36, 24), "red").save(path)
    return Frame(
        path, EXTRINSIC, INTRINSIC, (24, 36), lambda: np.full((24, 36), 2.0, dtype=np.float32)
    )


def recording(*frames: Frame, name: str = "a", category: str = "c") -> Recording:
    return Recording(name, category, "test", frames)


def test_frames_without_depth_beside_frames_with_depth_are_unknown_everywhere(frame: Frame) -> None:
    scene = recording(frame, replace(frame, depth=None)).read(36, 12)
    assert scene.depth is not None
    assert (scene.depth[0] == 2).all()
    assert (scene.depth[1] == 0).all()
    assert recording(replace(frame, depth=None)).read(36, 12).depth is None


def test_pictures_of_two_shapes_share_one_size_and_keep_their_rays(
    frame: Frame, tmp_path: Path
) -> None:
    Image.new("RGB", (24, 36), "red").save(tmp_path / "b.png")
    turned = np.array([[30.0, 0, 12], [0, 30, 18], [0, 0, 1]])
    tall = Frame(tmp_path / "b.png", EXTRINSIC, turned, (36, 24))
    scene = recording(frame, tall).read(36, 12)
    assert scene.images.shape == (2, 3, 36, 36)
    centre = torch.tensor([18.0, 18.0])
    torch.testing.assert_close(scene.intrinsics[:, :2, 2], torch.stack([centre, centre]))
    assert scene.depth is not None
    assert (scene.depth[0, 6:30] == 2).all()
    assert (scene.depth[0, :6] == 0).all()


def test_scenes_are_read_one_at_a_time(frame: Frame) -> None:
    missing = replace(frame, picture=frame.picture.with_name("none.png"))
    scenes = RecordedScenes((recording(frame), recording(missing, name="b")), (), 36, 12)
    assert len(scenes) == 2
    reader = iter(scenes)
    assert next(reader).name == "a"
    with pytest.raises(ValueError, match=r"none\.png: no such picture"):
        next(reader)


def test_the_first_scenes_are_those_of_each_category(frame: Frame) -> None:
    found = tuple(
        recording(frame, name=name, category=name[0]) for name in ("a1", "a2", "b1", "a3", "b2")
    )
    assert [r.name for r in RecordedScenes(found, (), 36, 12).first(1).recordings] == ["a1", "b1"]
    assert [r.name for r in RecordedScenes(found, (), 36, 12).first(2).recordings] == [
        "a1",
        "a2",
        "b1",
        "b2",
    ]


def test_a_damaged_picture_is_named(frame: Frame) -> None:
    content = frame.picture.read_bytes()
    frame.picture.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"a\.png"):
        recording(frame).read(36, 12)


def test_a_picture_or_depth_map_of_another_shape_is_refused(frame: Frame) -> None:
    with pytest.raises(ValueError, match=r"a\.png is 36x24 pixels; expected 30x30"):
        recording(replace(frame, size=(30, 30))).read(36, 12)
    with pytest.raises(ValueError, match=r"depth of .*a\.png is 20x20 pixels; expected 36x24"):
        recording(replace(frame, depth=lambda: np.ones((20, 20), dtype=np.float32))).read(36, 12)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"extrinsic": np.diag([1.0, 1, -1, 1])[:3]}, "no finite rotation"),
        ({"extrinsic": np.full((3, 4), np.nan)}, "no finite rotation"),
        ({"extrinsic": 2 * EXTRINSIC}, "not orthonormal"),
        ({"intrinsic": np.diag([-30.0, 30, 1])}, "positive focal lengths"),
        ({"intrinsic": np.array([[30.0, 5, 18], [0, 30, 12], [0, 0, 1]])}, "no skew"),
    ],
)
def test_a_camera_that_cannot_be_one_is_refused(
    frame: Frame, changed: dict[str, np.ndarray], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(frame, **changed)


def test_frames_are_spread_evenly_and_too_few_are_a_reason_to_skip() -> None:
    assert spread(range(10), 4) == [0, 2, 5, 7]
    assert spread(range(3), None) == [0, 1, 2]
    with pytest.raises(UnusableSceneError, match="3 frames; 4 are needed"):
        spread(range(3), 4)
    with pytest.raises(UnusableSceneError, match="0 frames; 1 are needed"):
        spread([], None)


def test_a_folder_is_one_scene_or_holds_scenes(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
    (tmp_path / "b" / "mark").touch()
    assert list(scene_folders(tmp_path, ["mark"])) == ["a", "b"]
    assert scene_folders(tmp_path / "b", ["mark"]) == {"b": tmp_path / "b"}
    with pytest.raises(ValueError, match="holds mark or sign"):
        scene_folders(tmp_path / "a", ["mark", "sign"])
    with pytest.raises(ValueError, match="no such folder"):
        scene_folders(tmp_path / "none", ["mark"])


def test_a_pose_and_its_extrinsic_are_inverse() -> None:
    pose = np.array([[0.0, -1, 0, 3], [1, 0, 0, 4], [0, 0, 1, 5], [0, 0, 0, 1]])
    np.testing.assert_allclose(world_to_camera(pose), np.linalg.inv(pose)[:3])
