from __future__ import annotations

import pytest

from service.inference.refinement_cost import RefinementCost, RefinementWork

HD = (1080, 1920)


def test_work_grows_with_pairs_until_only_some_are_matched() -> None:
    assert RefinementWork.of([HD] * 8, None).pairs == 28
    assert RefinementWork.of([HD] * 30, None).pairs == 435
    assert RefinementWork.of([HD] * 100, None).pairs == 900


def test_features_are_looked_for_in_pictures_made_smaller() -> None:
    work = RefinementWork.of([HD], 1024)
    assert work.pictures == pytest.approx(1.92 * 1.08)
    assert work.features == pytest.approx(1.6 * 0.9)
    assert work.dense == pytest.approx(1.024 * 0.576)
    assert RefinementWork.of([HD], None).dense == 0


def test_what_was_measured_is_predicted_and_more_costs_more() -> None:
    model = RefinementCost(threads=2)
    eight, sixteen = (RefinementWork.of([HD] * count, 1024) for count in (8, 16))
    assert model.predict(eight).seconds < model.predict(sixteen).seconds
    assert model.predict(eight).bytes < model.predict(sixteen).bytes
    measured = {"features": 5.0, "matching": 7.0, "cameras": 9.0, "dense": 11.0}
    for _ in range(64):
        model.observe(eight, measured, 10**9)
    assert model.seconds(eight) == pytest.approx(measured)
    assert model.predict(eight).seconds == pytest.approx(32.0)
    assert model.predict(eight).bytes == pytest.approx(1.15e9, rel=0.01)


def test_stages_that_did_not_come_to_an_end_teach_nothing() -> None:
    model = RefinementCost(threads=1)
    work = RefinementWork.of([HD] * 4, None)
    before = model.seconds(work)
    model.observe(work, {"features": 100.0}, 0)
    after = model.seconds(work)
    assert after["features"] > before["features"]
    assert {**after, "features": 0.0} == {**before, "features": 0.0}
    assert before["dense"] == 0


def test_more_threads_are_faster_until_something_was_measured() -> None:
    work = RefinementWork.of([HD] * 4, 1024)
    one, four = (RefinementCost(threads).predict(work).seconds for threads in (1, 4))
    assert one == pytest.approx(4 * four)
