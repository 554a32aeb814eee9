from __future__ import annotations

import pytest
import torch

from evaluation.pairs import all_pairs, by_turn, label, pair_errors, sideways


def turned(degrees: list[float]) -> torch.Tensor:
    """Pairs of cameras [P, 2, 3, 4]: the second turned about the vertical and a step to the
    right."""
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    cameras = torch.eye(3, 4, dtype=torch.float64).repeat(len(degrees), 2, 1, 1)
    cameras[:, 1, 0, 0] = cameras[:, 1, 2, 2] = angle.cos()
    cameras[:, 1, 0, 2], cameras[:, 1, 2, 0] = angle.sin(), -angle.sin()
    centre = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    cameras[:, 1, :, 3] = -(cameras[:, 1, :, :3] @ centre)
    return cameras


def test_the_truth_has_no_error_in_any_bucket() -> None:
    true = turned([5.0, 15.0, 15.0, 30.0, 90.0])
    found = by_turn(pair_errors(true, true))
    assert {bucket: figures["pairs"] for bucket, figures in found.items()} == {
        "0-10": 1,
        "10-20": 2,
        "20-40": 1,
        "> 40": 1,
        "all": 5,
    }
    for figures in found.values():
        assert figures["auc_30"] == pytest.approx(100)
        assert figures["rotation_deg"] == pytest.approx(0, abs=1e-4)


def test_the_predictor_that_does_not_look_is_wrong_by_the_whole_turn() -> None:
    true = turned([5.0, 25.0])
    found = by_turn(pair_errors(sideways(2), true))
    assert found["0-10"]["rotation_deg"] == pytest.approx(5, abs=0.01)
    assert found["20-40"]["rotation_deg"] == pytest.approx(25, abs=0.01)
    # a step to the right it was, and the direction is seen by the turned camera
    assert found["0-10"]["translation_deg"] == pytest.approx(5, abs=0.01)


def test_a_bucket_without_a_pair_has_no_figures() -> None:
    found = by_turn(pair_errors(sideways(1), turned([5.0])))
    assert found["10-20"] == {
        "pairs": 0,
        "auc_30": None,
        "rotation_deg": None,
        "translation_deg": None,
    }


def test_a_half_turn_falls_into_the_last_bucket() -> None:
    assert by_turn(pair_errors(sideways(1), turned([180.0])))["> 40"]["pairs"] == 1
    assert label(40, 180) == "> 40"


def test_all_pairs_are_those_of_two_different_frames() -> None:
    assert all_pairs(3).tolist() == [[0, 1], [0, 2], [1, 2]]
