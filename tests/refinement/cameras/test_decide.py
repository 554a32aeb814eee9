from __future__ import annotations

import numpy as np
import pytest

from refinement.camera_set import CameraSet

pytest.importorskip("pycolmap")

from refinement.cameras.decide import Judged
from refinement.cameras.solution import Solution, Tracks


def judged(kept: list[bool], total_share: float) -> Judged:
    count = len(kept)
    cameras = CameraSet(
        extrinsics=np.tile(np.eye(3, 4), (count, 1, 1)),
        focal=np.full(count, 500.0),
        centre=np.full((count, 2), 200.0),
        distortion=np.zeros(count),
        longer_side=np.full(count, 400),
    )
    nothing = np.zeros(0, dtype=np.int64)
    tracks = Tracks(np.zeros((0, 3)), nothing, nothing, np.zeros((0, 2)))
    solution = Solution("mapped", cameras, np.array(kept), tracks)
    return Judged(solution, np.full(count, 0.9), total_share)


def test_half_of_the_pictures_are_enough() -> None:
    assert judged([True, True, False, False], 0.5).usable
    assert not judged([True, True, False, False, False], 0.5).usable


def test_one_picture_has_no_camera() -> None:
    assert not judged([True, False], 0.9).usable


def test_a_solution_that_most_matches_contradict_is_of_no_use() -> None:
    assert not judged([True, True, False, False], 0.12).usable


def test_the_search_goes_on_until_nearly_all_matches_agree() -> None:
    assert judged([True] * 4, 0.97).certain
    assert judged([True] * 4, 0.9).settled
    assert not judged([True] * 4, 0.9).certain
    assert not judged([True, True, True, False], 0.97).certain
