from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from service.exports.options import PointOptions
from service.exports.points import select_points
from service.exports.view import BLACK, SKY, VERIFIED, WHITE, points_json, write_view
from service.result.scene import Scene

COLUMNS = (
    ("position", "<f4", 3), ("confidence", "<f4", 1), ("edge", "<f4", 1), ("picture", "<u2", 1),
    ("color", "u1", 3), ("flags", "u1", 1),
)  # fmt: skip


def read(path: Path) -> dict:
    """The file as a viewer reads it."""
    content = path.read_bytes()
    start = 4 + int.from_bytes(content[:4], "little")
    found = json.loads(content[4:start])
    for name, kind, width in COLUMNS:
        values = np.frombuffer(content, kind, found["points"] * width, start)
        found[name] = values.reshape(-1, width) if width > 1 else values
        start += values.nbytes
    assert start == len(content)
    return found


def choice(view: dict, scene: Scene, options: PointOptions) -> np.ndarray:
    """Which of the points `options` leave, as a viewer finds it."""
    least = points_json(scene, options)["least_confidence"]
    verified = (view["flags"] & VERIFIED) > 0
    left = np.ones(view["points"], bool)
    if least is not None:
        left &= (view["confidence"].astype(float) >= least) | verified
    if scene.dense is not None and options.points != "all":
        left &= verified
    for wanted, flag in (
        (options.mask_sky, SKY),
        (options.mask_black, BLACK),
        (options.mask_white, WHITE),
    ):
        if wanted:
            left &= (view["flags"] & flag) == 0
    if options.depth_edge is not None:
        left &= view["edge"] <= np.float32(options.depth_edge)
    if options.frame_numbers is not None:
        left &= np.isin(view["picture"], options.frame_numbers)
    return left


@pytest.mark.parametrize(
    "options",
    [
        PointOptions(confidence=0),
        PointOptions(confidence=40),
        PointOptions(confidence=25, frames="1"),
        PointOptions(confidence=60, mask_sky=True, mask_black=True, mask_white=True),
        PointOptions(confidence=10, depth_edge=0.02),
        PointOptions(confidence=30, points="all"),
    ],
    ids=str,
)
def test_a_viewer_chooses_the_same_points_as_a_file(
    scene: Scene, refined_scene: Scene, options: PointOptions, tmp_path: Path
) -> None:
    for each in (scene, refined_scene):
        write_view(each, 1_000_000, tmp_path / "view.bin")
        view = read(tmp_path / "view.bin")
        left = choice(view, each, options)
        cloud = select_points(each, options)
        blocks = list(cloud.blocks())
        expected = np.concatenate([block.points for block in blocks])
        np.testing.assert_array_equal(view["position"][left], expected)
        colors = np.concatenate([block.colors for block in blocks])
        np.testing.assert_array_equal(view["color"][left], colors)
        counted = points_json(each, options)
        assert counted["points"] == len(cloud) == left.sum()
        assert counted["pictures"] == list(cloud.counts)


def test_a_viewer_may_ask_for_fewer_and_hears_of_how_many(scene: Scene, tmp_path: Path) -> None:
    write_view(scene, 100, tmp_path / "view.bin")
    view = read(tmp_path / "view.bin")
    everything = len(select_points(scene, PointOptions(confidence=0)))
    assert (view["points"], view["of"]) == (100, everything)
    assert set(view["picture"]) == {0, 1}
