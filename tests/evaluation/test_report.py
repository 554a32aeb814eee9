from __future__ import annotations

from collections.abc import Callable

import pytest

from evaluation.report import summarise


def test_the_mean_auc_weighs_categories_not_scenes(record: Callable) -> None:
    found = summarise(
        [record("a", 0), record("b", 0), record("c", 0), record("d", 90, category="vase")],
        resamples=10,
    )
    assert found.auc[30].value == pytest.approx(50)
    assert found.category_auc["chair"][30].value == pytest.approx(100)
    assert found.category_auc["vase"][30].value == 0


def test_pairs_pool_within_a_category(record: Callable) -> None:
    found = summarise([record("a", 0, pairs=3), record("b", 90, pairs=1)], resamples=10)
    assert found.auc[30].value == pytest.approx(75)
    assert found.rotation_median.value == 0


def test_depth_figures_average_the_scenes_that_have_them(record: Callable) -> None:
    found = summarise(
        [record("a", 0, abs_rel=0.1), record("b", 0), record("c", 0, abs_rel=0.3)], resamples=10
    )
    assert found.abs_rel is not None
    assert found.abs_rel.value == pytest.approx(0.2)
    assert found.delta is None
