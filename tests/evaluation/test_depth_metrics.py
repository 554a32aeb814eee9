from __future__ import annotations

import pytest
import torch

from evaluation.depth_metrics import constant_depth_errors, depth_errors


@pytest.fixture
def true() -> torch.Tensor:
    return 1.0 + torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(1)) * 4


@pytest.mark.parametrize("scale", [1e-3, 1.0, 40.0])
def test_a_prediction_right_up_to_scale_has_no_error(true: torch.Tensor, scale: float) -> None:
    errors = depth_errors(true * scale, true)
    assert errors.abs_rel == pytest.approx(0, abs=1e-6)
    assert errors.delta == 1
    assert errors.scale == pytest.approx(1 / scale, rel=1e-5)
    assert errors.pixels == 70


def test_the_errors_of_a_hand_computed_example() -> None:
    predicted, true = (
        torch.tensor([2.0, 2.0, 2.0, 3.0, 1.5]),
        torch.tensor([2.0, 2.0, 2.0, 2.0, 2.0]),
    )
    errors = depth_errors(predicted, true)  # the median ratio is 1
    assert errors.scale == 1
    assert errors.abs_rel == pytest.approx((0.5 + 0.25) / 5)
    assert errors.delta == pytest.approx(3 / 5)


def test_one_scale_for_the_scene_punishes_frames_that_disagree(true: torch.Tensor) -> None:
    predicted = true.clone()
    predicted[1] *= 1.5
    assert depth_errors(predicted, true).abs_rel > 0.1


def test_masked_and_missing_pixels_do_not_count(true: torch.Tensor) -> None:
    predicted = true.clone()
    predicted[0, 0], predicted[0, 1], predicted[0, 2] = 1e6, torch.nan, -5
    truth = true.clone()
    truth[0, 0], truth[0, 1] = 0, torch.nan
    valid = torch.ones_like(true, dtype=torch.bool)
    valid[0, 2] = False
    errors = depth_errors(predicted, truth, valid)
    assert errors.abs_rel == pytest.approx(0, abs=1e-9)
    assert errors.pixels == 70 - 3 * 7


def test_a_negative_depth_is_never_within_the_ratio() -> None:
    errors = depth_errors(torch.tensor([1.0, 1.0, 1.0, -1.0]), torch.ones(4))
    assert errors.delta == pytest.approx(0.75)


def test_a_constant_depth_is_scored_as_the_true_median() -> None:
    errors = constant_depth_errors(torch.tensor([1.0, 2.0, 4.0]))
    assert errors.scale == 2
    assert errors.abs_rel == pytest.approx((1 + 0 + 0.5) / 3)


def test_bad_input_is_refused_by_name(true: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="no valid ground truth"):
        depth_errors(true, torch.zeros_like(true))
    with pytest.raises(ValueError, match="no valid ground truth"):
        depth_errors(true, true, torch.zeros_like(true, dtype=torch.bool))
    with pytest.raises(ValueError, match="not finite at 70 of 70"):
        depth_errors(true * torch.nan, true)
    with pytest.raises(ValueError, match="one shape"):
        depth_errors(true[0], true)


def test_a_scale_is_positive_so_a_scene_behind_the_camera_is_wrong() -> None:
    true = torch.tensor([[1.0, 2.0, 4.0]])
    found = depth_errors(-true, true)
    assert (found.abs_rel, found.delta, found.scale) == (2.0, 0.0, 1.0)


def test_pixels_that_are_predicted_at_the_camera_have_no_part_in_the_scale() -> None:
    true = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    found = depth_errors(torch.tensor([[0.0, 0.0, 0.0, 4.0]]), true)
    assert (found.abs_rel, found.delta, found.scale) == (0.75, 0.25, 2.0)
