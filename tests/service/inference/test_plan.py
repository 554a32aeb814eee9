from __future__ import annotations

import pytest

from service.errors import TooMuchMemory
from service.inference.cost import Cost, CostModel
from service.inference.plan import Asked, Plan, Planner

SIDE = 96


def planner(
    budget_frames: float | None, pass_frames: int | None = None, keys: int | None = None
) -> Planner:
    """A planner whose budget holds so many frames of full resolution; memory is proportional to
    tokens."""
    model = CostModel(patch_size=12, special_tokens=5)
    for frames in (1, 2, 4):
        tokens = model.tokens(frames, SIDE, SIDE)
        model.calibrate(frames, SIDE, SIDE, Cost(10_000 * tokens, 1e-3 * tokens))
    if budget_frames is None:
        return Planner(model, None, pass_frames, keys)
    budget = int(budget_frames * model.predict(1, SIDE, SIDE).bytes) + 1000
    return Planner(model, budget, pass_frames, keys)


def covered(plan: Plan) -> list[int]:
    return sorted({frame for chunk in plan.chunks for frame in chunk})


def test_what_fits_runs_whole() -> None:
    plan = planner(8).plan(8, SIDE, SIDE)
    assert (plan.chunks, plan.factor, plan.steps) == ((range(8),), 1.0, [])


def test_what_does_not_fit_is_chunked_within_the_budget() -> None:
    mine = planner(8)
    plan = mine.plan(20, SIDE, SIDE)
    assert plan.steps == ["chunked"]
    assert covered(plan) == list(range(20))
    assert mine.budget is not None
    assert plan.cost.bytes <= mine.budget
    assert plan.document()["degraded"] == ["chunked"]


def test_passes_that_look_for_loops_are_counted_in_time_but_not_in_memory() -> None:
    mine = planner(8)
    plan = mine.plan(20, SIDE, SIDE)
    longest = mine.model.predict(8, SIDE, SIDE)
    passes = [mine.model.predict(len(chunk), SIDE, SIDE).seconds for chunk in plan.chunks]
    assert plan.cost.seconds == pytest.approx(sum(passes) + len(passes) // 3 * longest.seconds)
    assert plan.cost.bytes == longest.bytes


def test_resolution_is_given_up_before_chunks_of_fewer_than_four() -> None:
    plan = planner(3).plan(20, SIDE, SIDE)
    assert plan.steps == ["chunked", "reduced-resolution"]
    assert plan.factor == 0.75
    assert plan.pass_frames >= 4


def test_a_single_frame_is_only_reduced() -> None:
    plan = planner(0.6).plan(1, SIDE, SIDE)
    assert plan.steps == ["reduced-resolution"]


def test_what_fits_in_no_way_is_refused() -> None:
    with pytest.raises(TooMuchMemory, match="half the resolution"):
        planner(0.1).plan(3, SIDE, SIDE)


def test_the_operators_limit_is_kept_whatever_the_budget() -> None:
    plan = planner(None, pass_frames=3).plan(7, SIDE, SIDE)
    assert max(len(chunk) for chunk in plan.chunks) == 3
    assert covered(plan) == list(range(7))


def test_after_running_out_of_memory_less_is_tried_until_nothing_less_is_left() -> None:
    mine = planner(None)
    plan: Plan | None = mine.plan(16, SIDE, SIDE)
    seen = []
    while plan is not None:
        assert covered(plan) == list(range(16))
        seen.append((plan.pass_frames, plan.factor))
        plan = mine.harder(plan, SIDE, SIDE)
    assert seen == [(16, 1.0), (8, 1.0), (4, 1.0), (2, 1.0), (2, 0.75), (2, 0.5)]


def steps(mine: Planner, asked: Asked) -> list[tuple[int, int, float]]:
    """Frames a pass, factor of the keys and resolution of every attempt at 16 frames."""
    plan: Plan | None = mine.plan(16, SIDE, SIDE, asked)
    seen = []
    while plan is not None:
        seen.append((plan.pass_frames, plan.keys.factor, plan.factor))
        plan = mine.harder(plan, SIDE, SIDE)
    return seen


def test_fewer_keys_are_tried_before_smaller_passes_unless_all_are_asked_for() -> None:
    mine = planner(None, keys=10_000)
    tried = steps(mine, Asked())
    assert tried[:4] == [(16, 1, 1.0), (16, 2, 1.0), (8, 1, 1.0), (8, 2, 1.0)]
    assert tried[-1] == (2, 2, 0.5)
    assert {factor for _, factor, _ in steps(mine, Asked(attention_keys="all"))} == {1}


# a frame of 518 x 392 pixels has 28 x 37 patches of 14 pixels and 5 special tokens
@pytest.mark.parametrize(
    ("frames", "passes", "expected"),
    [
        (32, "auto", (1, 32, 0, 1)),
        (33, "auto", (1, 33, 0, 2)),
        (63, "auto", (1, 63, 0, 4)),
        (123, "auto", (1, 123, 0, 4)),
        (124, "auto", (2, 96, 32, 4)),
        (1000, "auto", (16, 96, 32, 4)),
        (124, "one", (1, 124, 0, 8)),
        (1000, "one", (1, 1000, 0, 16)),
        (50, "20", (4, 20, 6, 1)),
    ],
)
def test_the_number_of_frames_decides_passes_and_keys(
    frames: int, passes: str, expected: tuple[int, int, int, int]
) -> None:
    model = CostModel(patch_size=14, special_tokens=5)
    model.calibrate(1, 392, 518, Cost(10**7, 1.0))
    plan = Planner(model, None, None).plan(frames, 392, 518, Asked(passes=passes))
    document = plan.document()
    assert (
        document["passes"],
        document["pass_frames"],
        document["shared_frames"],
        document["keys"]["factor"],
    ) == expected
    assert document["exact"] == (expected[0] == expected[3] == 1)
    assert ("fewer-keys" in document["degraded"]) == (expected[3] > 1)


def test_small_pictures_stay_exact_for_longer() -> None:
    mine = planner(None, keys=33_312)
    assert mine.plan(96, SIDE, SIDE).exact
    assert mine.plan(96, SIDE, SIDE, Asked(attention_keys="1500")).keys.factor == 8


def test_the_operators_limit_holds_for_a_request_that_wants_one_pass() -> None:
    plan = planner(None, pass_frames=3).plan(7, SIDE, SIDE, Asked(passes="one"))
    assert plan.pass_frames == 3


def test_how_many_frames_fit_is_told() -> None:
    assert planner(8).max_frames(SIDE, SIDE, 32) == 8
    assert planner(None).max_frames(SIDE, SIDE, 32) == 32
