from __future__ import annotations

import pytest

from service.inference.cost import Cost, CostModel


def law(tokens: int, keys: int | None = None) -> Cost:
    pairs = tokens * (tokens if keys is None else keys)
    return Cost(int(5e6 + 2e4 * tokens), 5e-3 + 1e-4 * tokens + 1e-8 * pairs)


@pytest.fixture
def model() -> CostModel:
    model = CostModel(patch_size=12, special_tokens=5)
    for frames, side in ((1, 48), (1, 96), (2, 96), (6, 96)):
        model.calibrate(frames, side, side, law(model.tokens(frames, side, side)))
    return model


def test_the_law_behind_the_measurements_is_found(model: CostModel) -> None:
    for frames in (1, 8, 32):
        expected, predicted = law(model.tokens(frames, 96, 96)), model.predict(frames, 96, 96)
        assert predicted.bytes == pytest.approx(1.05 * expected.bytes, rel=1e-3)
        assert predicted.seconds == pytest.approx(expected.seconds, rel=1e-3)


def test_fewer_keys_take_less_time_by_the_pairs_that_are_left_out(model: CostModel) -> None:
    tokens, budget = model.tokens(32, 96, 96), model.budget(32, 96, 96, 4)
    looked_at = model.keys(32, 96, 96, budget)
    assert looked_at.factor == 4
    expected = law(tokens, looked_at.kept)
    assert model.predict(32, 96, 96, budget).seconds == pytest.approx(expected.seconds, rel=1e-3)
    assert model.predict(32, 96, 96, tokens) == model.predict(32, 96, 96)
    for _ in range(60):
        model.observe(32, 96, 96, Cost(expected.bytes, expected.seconds), budget)
    assert model.predict(32, 96, 96).seconds == pytest.approx(law(tokens).seconds, rel=1e-3)


def test_a_prediction_is_never_negative_and_grows_with_the_frames(model: CostModel) -> None:
    noisy = CostModel(patch_size=12, special_tokens=5)
    # later passes were faster: a cold start
    for frames, seconds in ((1, 0.3), (1, 0.1), (2, 0.09)):
        noisy.calibrate(frames, 96, 96, Cost(1000, seconds))
    costs = [noisy.predict(frames, 96, 96) for frames in range(1, 20)]
    assert all(cost.bytes >= 0 and cost.seconds > 0 for cost in costs)
    assert [cost.seconds for cost in costs] == sorted(cost.seconds for cost in costs)


def test_requests_correct_the_calibration(model: CostModel) -> None:
    truth = law(model.tokens(8, 96, 96))
    for _ in range(60):
        model.observe(8, 96, 96, Cost(int(1.5 * truth.bytes), 1.5 * truth.seconds))
    predicted = model.predict(8, 96, 96)
    assert predicted.seconds == pytest.approx(1.5 * truth.seconds, rel=0.1)
    assert predicted.bytes == pytest.approx(1.05 * 1.5 * truth.bytes, rel=0.1)


def test_one_measurement_is_enough_to_begin_with() -> None:
    model = CostModel(patch_size=12, special_tokens=5)
    model.calibrate(1, 96, 96, Cost(1_000_000, 0.5))
    assert model.predict(1, 96, 96).seconds == pytest.approx(0.5)
    assert model.predict(1, 96, 96).bytes == pytest.approx(1_050_000, rel=1e-3)
