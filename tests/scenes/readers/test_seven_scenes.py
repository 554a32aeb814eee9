from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenes.readers.seven_scenes import read_seven_scenes
from scenes.scene import Scene
from scenes.synthetic.distribution import SceneDistribution
from scenes.synthetic.generator import SyntheticScenes

GRID = {"image_size": 48, "patch_size": 12}


@pytest.fixture(scope="module")
def office() -> Scene:
    """Seen by the Kinect's field of view, at a small size of the same shape."""
    angle = math.degrees(2 * math.atan(320 / 525))
    return SyntheticScenes(
        "test", 1, 4, 36, 48, 5, SceneDistribution(field_of_view=(angle, angle))
    )[0]


@pytest.fixture
def root(
    tmp_path: Path,
    office: Scene,
    write_pictures: Callable[..., None],
    camera_to_world: Callable[..., list[np.ndarray]],
) -> Path:
    (tmp_path / "office").mkdir()
    (tmp_path / "office" / "TrainSplit.txt").write_text("sequence1\n")
    (tmp_path / "office" / "TestSplit.txt").write_text("sequence2\nsequence10\n")
    assert office.depth is not None
    for sequence in ("seq-01", "seq-02", "seq-10"):
        folder = tmp_path / "office" / sequence
        write_pictures(office, [folder / f"frame-{i:06d}.color.png" for i in range(4)])
        for i, pose in enumerate(camera_to_world(office)):
            millimetres = (office.depth[i] * 1000).round().numpy().astype(np.uint16)
            millimetres[0, 0] = 65_535
            Image.fromarray(millimetres).save(folder / f"frame-{i:06d}.depth.png")
            np.savetxt(folder / f"frame-{i:06d}.pose.txt", pose, fmt="%.9e", delimiter="\t ")
    return tmp_path


def test_a_sequence_has_the_cameras_and_depth_that_its_files_say(
    root: Path, office: Scene, assert_same: Callable[..., None]
) -> None:
    first, second = read_seven_scenes(root, **GRID)
    assert [first.name, second.name] == ["office/seq-02", "office/seq-10"]
    assert (first.category, first.split) == ("7scenes", "test")
    assert first.depth is not None
    assert office.depth is not None
    assert (first.depth[:, 0, 0] == 0).all()
    first.depth[:, 0, 0] = office.depth[:, 0, 0]
    assert_same(first, office, relative=1e-6, absolute=0.00051)


def test_the_splits_share_no_sequence_and_absent_scenes_are_named(root: Path) -> None:
    train = read_seven_scenes(root, split="train", views=2, **GRID)
    assert [recording.name for recording in train.recordings] == ["office/seq-01"]
    assert [len(recording.frames) for recording in train.recordings] == [2]
    assert next(iter(train)).split == "train"
    assert [name for name, _ in train.skipped] == [
        "chess",
        "fire",
        "heads",
        "pumpkin",
        "redkitchen",
        "stairs",
    ]


def test_a_sequence_that_was_not_unpacked_is_named(root: Path) -> None:
    (root / "office" / "TestSplit.txt").write_text("sequence3\n")
    assert ("office/seq-03", "no pictures office/seq-03/frame-*.color.png") in read_seven_scenes(
        root, **GRID
    ).skipped


def test_damaged_files_are_refused_by_name(root: Path) -> None:
    (root / "office" / "seq-02" / "frame-000001.pose.txt").write_text("1 0 0\n")
    with pytest.raises(ValueError, match=r"frame-000001\.pose\.txt: expected 16 numbers"):
        read_seven_scenes(root, **GRID)
    (root / "office" / "TestSplit.txt").write_text("seq-02\n")
    with pytest.raises(
        ValueError, match=r"TestSplit\.txt: expected lines such as 'sequence1', found \['seq-02'\]"
    ):
        read_seven_scenes(root, **GRID)
    (root / "office" / "TestSplit.txt").unlink()
    with pytest.raises(ValueError, match=r"TestSplit\.txt: no such file"):
        read_seven_scenes(root, **GRID)


def test_another_split_or_folder_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="7-Scenes has train, test"):
        read_seven_scenes(root, split="calibration", **GRID)
    with pytest.raises(ValueError, match="none of the 7 scenes"):
        read_seven_scenes(root / "office", **GRID)
