from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scenes.readers.co3d import CATEGORIES, read_co3d
from scenes.scene import Scene

ALL = {"views": None, "min_frames": 3}
SCALE = 2.0  # scale_adjustment


@pytest.fixture(scope="module")
def object_scene(scene: Scene) -> Scene:
    """The principal point off the centre, or the signs of the normalised coordinates could not be
    told."""
    intrinsics = scene.intrinsics.clone()
    intrinsics[:, 0, 2] += 3
    intrinsics[:, 1, 2] -= 2
    return replace(scene, intrinsics=intrinsics)


def viewpoint(scene: Scene, i: int, intrinsics_format: str) -> dict[str, Any]:
    """PyTorch3D: rows times R, axes x left and y up, coordinates normalised by half the shorter or
    each side."""
    extrinsic, k = scene.extrinsics[i].double(), scene.intrinsics[i].double()
    flip = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)
    unit = [18.0, 12.0] if intrinsics_format == "ndc_norm_image_bounds" else [12.0, 12.0]
    return {
        "R": (extrinsic[:, :3].T * flip).tolist(),
        "T": (extrinsic[:, 3] * flip).tolist(),
        "focal_length": [float(k[0, 0]) / unit[0], float(k[1, 1]) / unit[1]],
        "principal_point": [(18 - float(k[0, 2])) / unit[0], (12 - float(k[1, 2])) / unit[1]],
        "intrinsics_format": intrinsics_format,
    }


class Category:
    """A category folder in the making: sequences are added, then the annotations are written."""

    def __init__(self, root: Path, name: str, write_pictures: Callable[..., None]) -> None:
        self.root, self.name, self.write_pictures = root, name, write_pictures
        self.frames: list[dict[str, Any]] = []
        self.sequences: list[dict[str, Any]] = []
        self.set_lists: dict[str, list[tuple[str, int, str]]] = {"train": [], "val": [], "test": []}

    def add(
        self,
        sequence: str,
        scene: Scene,
        *,
        split: str = "test",
        quality: float | None = 0.9,
        intrinsics_format: str = "ndc_isotropic",
    ) -> None:
        folder = f"{self.name}/{sequence}"
        paths = [f"{folder}/images/frame{i + 1:06d}.jpg" for i in range(4)]
        self.write_pictures(scene, [self.root / path for path in paths])
        for i, path in enumerate(paths):
            depth, mask = (
                f"{folder}/depths/frame{i + 1:06d}.jpg.geometric.png",
                f"{folder}/depth_masks/{i}.png",
            )
            assert scene.depth is not None
            for name in (depth, mask):
                (self.root / name).parent.mkdir(exist_ok=True)
            stored = (scene.depth[i] / SCALE).numpy().astype(np.float16).view(np.uint16)
            Image.fromarray(stored).save(self.root / depth)
            seen = np.full((24, 36), 255, dtype=np.uint8)
            seen[:5, :6] = 0
            Image.fromarray(seen).convert("1").save(self.root / mask)
            self.frames.append(
                {
                    "sequence_name": sequence,
                    "frame_number": i + 1,
                    "image": {"path": path, "size": [24, 36]},
                    "depth": {"path": depth, "scale_adjustment": SCALE, "mask_path": mask},
                    "viewpoint": viewpoint(scene, i, intrinsics_format),
                }
            )
            self.set_lists[split].append((sequence, i + 1, path))
        self.sequences.append({"sequence_name": sequence, "viewpoint_quality_score": quality})

    def write(self) -> None:
        folder = self.root / self.name
        for name, entries in (("frame", self.frames), ("sequence", self.sequences)):
            with gzip.open(folder / f"{name}_annotations.jgz", "wt", encoding="utf-8") as file:
                json.dump(entries, file)
        (folder / "set_lists").mkdir(exist_ok=True)
        (folder / "set_lists" / "set_lists_fewview_dev.json").write_text(json.dumps(self.set_lists))


@pytest.fixture
def apple(tmp_path: Path, write_pictures: Callable[..., None]) -> Category:
    def lossless(scene: Scene, paths: list[Path]) -> None:
        """PNG content under Co3D's .jpg names, so that pictures can be compared exactly."""
        write_pictures(scene, [path.with_suffix(".png") for path in paths])
        for path in paths:
            path.with_suffix(".png").rename(path)

    return Category(tmp_path, "apple", lossless)


@pytest.mark.parametrize("intrinsics_format", ["ndc_isotropic", "ndc_norm_image_bounds"])
def test_a_sequence_has_the_cameras_and_depth_that_its_files_say(
    apple: Category,
    object_scene: Scene,
    grid: dict[str, int],
    assert_same: Callable[..., None],
    intrinsics_format: str,
) -> None:
    apple.add("110_1", object_scene, intrinsics_format=intrinsics_format)
    apple.write()
    (found,) = read_co3d(apple.root, **ALL, **grid)
    assert (found.name, found.category, found.split) == ("apple/110_1", "apple", "test")
    assert found.depth is not None
    assert object_scene.depth is not None
    assert (found.depth[:, :5, :6] == 0).all()
    found.depth[:, :5, :6] = object_scene.depth[:, :5, :6]
    assert_same(found, object_scene, relative=2**-11)


def test_every_category_has_its_place_and_those_not_there_are_named(
    apple: Category, scene: Scene, grid: dict[str, int]
) -> None:
    apple.add("110_1", scene)
    apple.write()
    scenes = read_co3d(apple.root, **ALL, **grid)
    assert len(scenes.expected_categories) == 41
    assert [name for name, _ in scenes.skipped] == list(CATEGORIES[1:])
    assert read_co3d(apple.root, categories=["apple"], **ALL, **grid).skipped == ()


def test_sequences_that_a_filter_takes_out_are_named_with_the_reason(
    apple: Category, scene: Scene, grid: dict[str, int]
) -> None:
    apple.add("110_1", scene)
    apple.add("110_2", scene, quality=0.5)
    apple.add("110_3", scene, quality=None)
    apple.add("110_4", scene)
    (apple.root / "apple" / "110_4" / "images" / "frame000003.jpg").unlink()
    apple.write()
    scenes = read_co3d(apple.root, categories=["apple"], **ALL, **grid)
    assert [recording.name for recording in scenes.recordings] == ["apple/110_1"]
    assert scenes.skipped == (
        ("apple/110_2", "viewpoint quality is 0.5; more than 0.5 is needed"),
        ("apple/110_3", "viewpoint quality is None; more than 0.5 is needed"),
        ("apple/110_4", "no picture apple/110_4/images/frame000003.jpg"),
    )
    few = read_co3d(apple.root, categories=["apple"], **grid)
    assert ("apple/110_1", "4 frames; 50 are needed") in few.skipped
    assert len(few) == 0


def test_a_sequence_with_a_runaway_camera_is_skipped_as_in_the_published_protocol(
    apple: Category, scene: Scene, grid: dict[str, int]
) -> None:
    apple.add("110_1", scene)
    apple.frames[1]["viewpoint"]["T"] = [9e4, 0.0, 2e4]
    apple.add("110_2", scene)
    apple.write()
    scenes = read_co3d(apple.root, categories=["apple"], **ALL, **grid)
    assert [recording.name for recording in scenes.recordings] == ["apple/110_2"]
    assert scenes.skipped == (("apple/110_1", "the camera of frame 2 lies beyond 100000"),)


def test_the_splits_share_no_frame(apple: Category, scene: Scene, grid: dict[str, int]) -> None:
    apple.add("110_1", scene, split="train")
    apple.add("110_2", scene, split="test")
    apple.add("110_3", scene, split="val")
    apple.write()
    for split, name in (("train", "apple/110_1"), ("test", "apple/110_2")):
        (recording,) = read_co3d(
            apple.root, split=split, categories=["apple"], **ALL, **grid
        ).recordings
        assert (recording.name, recording.split) == (name, split)


def drawn(root: Path, grid: dict[str, int], seed: int) -> dict[str, list[str]]:
    scenes = read_co3d(root, views=2, seed=seed, categories=["apple"], min_frames=3, **grid)
    return {r.name: [frame.picture.name for frame in r.frames] for r in scenes.recordings}


def test_the_draw_depends_on_the_seed_and_on_no_other_sequence(
    apple: Category, scene: Scene, grid: dict[str, int]
) -> None:
    apple.add("110_2", scene)
    apple.write()
    alone = drawn(apple.root, grid, 0)
    apple.add("110_1", scene)
    apple.write()
    together = drawn(apple.root, grid, 0)
    assert together["apple/110_2"] == alone["apple/110_2"]
    assert together == drawn(apple.root, grid, 0)
    assert len({tuple(drawn(apple.root, grid, seed)["apple/110_2"]) for seed in range(8)}) > 1
    assert all(len(set(names)) == 2 for names in together.values())


def test_a_sequence_without_depth_files_has_no_true_depth(
    apple: Category, scene: Scene, grid: dict[str, int], assert_same: Callable[..., None]
) -> None:
    apple.add("110_1", scene)
    for frame in apple.frames:
        (apple.root / frame["depth"]["path"]).unlink()
    apple.write()
    (found,) = read_co3d(apple.root, **ALL, **grid)
    assert_same(found, scene, relative=None)


def test_damaged_annotations_are_refused_by_name(
    apple: Category, scene: Scene, grid: dict[str, int]
) -> None:
    apple.add("110_1", scene)
    apple.frames[0]["viewpoint"]["intrinsics_format"] = "pixels"
    apple.write()
    with pytest.raises(
        ValueError, match="intrinsics_format is 'pixels'; expected ndc_isotropic or"
    ):
        read_co3d(apple.root, **ALL, **grid)
    del apple.frames[0]["viewpoint"]
    apple.write()
    with pytest.raises(
        ValueError, match=r"frame_annotations\.jgz: a frame of apple/110_1 is incomplete"
    ):
        read_co3d(apple.root, **ALL, **grid)
    del apple.frames[0]
    apple.write()
    with pytest.raises(
        ValueError, match=r"lists apple/110_1/images/frame000001\.jpg, which frame_annotations\.jgz"
    ):
        read_co3d(apple.root, **ALL, **grid)
    path = apple.root / "apple" / "frame_annotations.jgz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"frame_annotations\.jgz: not a readable annotation file"):
        read_co3d(apple.root, **ALL, **grid)


def test_unknown_names_and_folders_are_refused(tmp_path: Path, grid: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="split 'val'"):
        read_co3d(tmp_path, split="val", **grid)
    with pytest.raises(ValueError, match=r"unknown categories \['pear'\]"):
        read_co3d(tmp_path, categories=["apple", "pear"], **grid)
    with pytest.raises(ValueError, match="holds no category of Co3Dv2"):
        read_co3d(tmp_path, **grid)
    with pytest.raises(ValueError, match="none: no such folder"):
        read_co3d(tmp_path / "none", **grid)
