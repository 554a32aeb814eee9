from __future__ import annotations

import pytest

from evaluation.report import Report, SceneRecord, auc_retained, summarise


def record(
    name: str, error_deg: float, *, category: str = "chair", pairs: int = 1, **figures: float
) -> SceneRecord:
    missing = dict.fromkeys(
        ("abs_rel", "delta", "constant_abs_rel", "point_error", "point_head_error", "surface")
    )
    return SceneRecord(
        name=name,
        category=category,
        split="test",
        views=2,
        rotation_deg=(error_deg,) * pairs,
        translation_deg=(0.0,) * pairs,
        failure=None,
        **{**missing, **figures},
    )


def report(*errors: float) -> Report:
    return summarise([record(f"s{i}", error) for i, error in enumerate(errors)], resamples=50)


def test_the_mean_auc_weighs_categories_not_scenes() -> None:
    found = summarise(
        [record("a", 0), record("b", 0), record("c", 0), record("d", 90, category="vase")],
        resamples=10,
    )
    assert found.auc[30].value == pytest.approx(50)
    assert found.category_auc["chair"][30].value == pytest.approx(100)
    assert found.category_auc["vase"][30].value == 0


def test_pairs_pool_within_a_category() -> None:
    found = summarise([record("a", 0, pairs=3), record("b", 90, pairs=1)], resamples=10)
    assert found.auc[30].value == pytest.approx(75)
    assert found.rotation_median.value == 0


def test_depth_figures_average_the_scenes_that_have_them() -> None:
    found = summarise(
        [record("a", 0, abs_rel=0.1), record("b", 0), record("c", 0, abs_rel=0.3)], resamples=10
    )
    assert found.abs_rel is not None
    assert found.abs_rel.value == pytest.approx(0.2)
    assert found.delta is None


def test_an_equal_network_keeps_all_of_the_auc() -> None:
    kept = auc_retained(report(1, 5, 20), report(1, 5, 20))
    assert kept is not None
    assert (kept.value, kept.low, kept.high) == pytest.approx((100, 100, 100))


def test_scenes_that_are_hard_for_both_do_not_widen_the_interval() -> None:
    reference, other = report(*[0, 25] * 20), report(*[3, 26] * 20)
    kept = auc_retained(reference, other)
    assert kept is not None
    assert kept.low < kept.value < kept.high < 100
    assert kept.high - kept.low < 0.2 * (reference.auc[30].high - reference.auc[30].low)


def test_nothing_can_be_kept_of_nothing() -> None:
    assert auc_retained(report(90, 90), report(90, 90)) is None


def test_reports_of_different_scenes_are_not_compared() -> None:
    with pytest.raises(ValueError, match="same scenes"):
        auc_retained(report(1), report(1, 2))
