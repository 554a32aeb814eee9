from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from evaluation.kept import FIGURES, kept
from evaluation.report import Report, SceneRecord, summarise


@pytest.fixture
def report(record: Callable[..., SceneRecord]) -> Callable[..., Report]:
    """Of one scene an error in degrees; other figures as one value a scene."""

    def build(*errors: float, **figures: Sequence[float]) -> Report:
        return summarise(
            [
                record(f"s{i}", error, **{name: values[i] for name, values in figures.items()})
                for i, error in enumerate(errors)
            ],
            resamples=50,
        )

    return build


def test_an_equal_network_keeps_all_of_every_figure(report: Callable[..., Report]) -> None:
    same = report(1, 2, 2.5, **{name: [0.1, 0.2, 0.3] for name in list(FIGURES)[6:]})
    for name, found in kept(same, same).items():
        if name == "translation_median":  # its errors are 0: nothing to divide by
            assert found is None
            continue
        assert found is not None, name
        assert (found.value, found.low, found.high) == pytest.approx((100, 100, 100))


def test_less_than_100_is_worse_in_scores_and_in_errors(report: Callable[..., Report]) -> None:
    reference = report(2, 2, focal_error=[0.1, 0.1], delta=[0.8, 0.8])
    found = kept(reference, report(4, 4, focal_error=[0.2, 0.2], delta=[0.4, 0.4]))
    shares = {name: interval.value for name, interval in found.items() if interval is not None}
    assert shares["rotation_median"] == pytest.approx(50)
    assert shares["focal_error"] == pytest.approx(50)
    assert shares["delta"] == pytest.approx(50)
    assert 90 < shares["auc_30"] < 100


def test_a_figure_is_compared_on_the_scenes_that_have_it_in_both(
    record: Callable[..., SceneRecord],
) -> None:
    reference = summarise([record("a", 1, abs_rel=0.1), record("b", 1, abs_rel=9.0)], resamples=5)
    other = summarise([record("a", 1, abs_rel=0.2), record("b", 1)], resamples=5)
    found = kept(reference, other)
    assert found["abs_rel"] is not None
    assert found["abs_rel"].value == pytest.approx(50)
    assert found["point_error"] is None


def test_scenes_that_are_hard_for_both_do_not_widen_the_interval(
    report: Callable[..., Report],
) -> None:
    reference, other = report(*[0, 25] * 20), report(*[3, 26] * 20)
    found = kept(reference, other)["auc_30"]
    assert found is not None
    assert found.low < found.value < found.high < 100
    assert found.high - found.low < 0.2 * (reference.auc[30].high - reference.auc[30].low)


def test_nothing_can_be_kept_of_nothing(report: Callable[..., Report]) -> None:
    assert kept(report(90, 90), report(90, 90))["auc_30"] is None


def test_reports_of_different_scenes_are_not_compared(report: Callable[..., Report]) -> None:
    with pytest.raises(ValueError, match="same scenes"):
        kept(report(1), report(1, 2))
