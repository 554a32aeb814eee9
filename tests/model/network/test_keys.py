from __future__ import annotations

import pytest
import torch

from model.network.keys import (
    FACTORS,
    USUAL_BUDGET,
    factor_within,
    kept_patches,
    kept_tokens,
    keys_of_images,
    pattern,
)

ROWS, COLUMNS, SPECIAL = 8, 12, 5
TOKENS = SPECIAL + ROWS * COLUMNS


@pytest.mark.parametrize("factor", FACTORS)
def test_one_patch_of_so_many_is_kept(factor: int) -> None:
    for frame in range(20):
        assert kept_patches(factor, frame, ROWS, COLUMNS).sum() == ROWS * COLUMNS // factor


@pytest.mark.parametrize("factor", FACTORS)
def test_as_many_frames_as_a_cell_has_patches_see_every_spot_once(factor: int) -> None:
    seen = sum(kept_patches(factor, frame, ROWS, COLUMNS).long() for frame in range(factor))
    assert (seen == 1).all()


@pytest.mark.parametrize("factor", FACTORS[2:])
def test_the_next_frame_keeps_patches_far_from_those_of_this_one(factor: int) -> None:
    first, second = (kept_patches(factor, frame, ROWS, COLUMNS).nonzero()[0] for frame in (0, 1))
    cell = {4: (2, 2), 8: (2, 4), 16: (4, 4)}[factor]
    assert (second - first).tolist() == [side // 2 for side in cell]


@pytest.mark.parametrize("factor", FACTORS)
def test_the_first_frame_and_all_special_tokens_are_kept(factor: int) -> None:
    kept = kept_tokens(factor, 4, ROWS, COLUMNS, SPECIAL)
    marks = torch.zeros(4 * TOKENS, dtype=torch.bool)
    marks[kept] = True
    frames = marks.view(4, TOKENS)
    assert frames[0].all()
    assert frames[:, :SPECIAL].all()
    assert frames[1:, SPECIAL:].sum() == 3 * ROWS * COLUMNS // factor
    assert torch.equal(kept, kept.sort().values)


def test_a_grid_smaller_than_a_cell_keeps_at_least_the_special_tokens() -> None:
    assert len(kept_tokens(16, 3, 1, 1, SPECIAL)) >= 3 * SPECIAL + 1


@pytest.mark.parametrize(
    ("frames", "factor"),
    [(1, 1), (32, 1), (33, 2), (62, 2), (63, 4), (123, 4), (124, 8), (241, 16)],
)
def test_32_whole_frames_as_a_budget(frames: int, factor: int) -> None:
    assert factor_within(USUAL_BUDGET, frames, 28, 37, SPECIAL) == factor


def test_what_no_factor_reaches_gets_the_largest() -> None:
    assert factor_within(1, 1000, ROWS, COLUMNS, SPECIAL) == FACTORS[-1]


def test_no_key_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="attention_keys is 0; expected at least 1"):
        factor_within(0, 3, ROWS, COLUMNS, SPECIAL)


@pytest.mark.parametrize("grid", [(8, 12), (7, 9), (1, 1)])
@pytest.mark.parametrize("frames", [1, 2, 5, 40])
@pytest.mark.parametrize("budget", [None, 1, 100, 400, 1000])
def test_what_will_be_looked_at_is_known_without_a_pass(
    grid: tuple[int, int], frames: int, budget: int | None
) -> None:
    found = pattern(frames, grid, SPECIAL, budget)
    assert found.kept == len(kept_tokens(found.factor, frames, *grid, SPECIAL))
    assert found.of == frames * (SPECIAL + grid[0] * grid[1])
    assert found.exact == (found.factor == 1)
    if budget is None:
        assert found.exact
        assert found.share == 1


def test_a_pattern_tells_how_much_it_leaves_out() -> None:
    found = pattern(100, (28, 37), SPECIAL, USUAL_BUDGET)
    assert found.document() == {"factor": 4, "kept": 27170, "of": 104100, "share": 0.261}
    assert pattern(1000, (28, 37), SPECIAL, USUAL_BUDGET).kept > USUAL_BUDGET


def test_images_have_the_keys_of_their_grid_and_none_where_all_tokens_fit() -> None:
    images = torch.zeros(1, 4, 3, 14 * ROWS, 14 * COLUMNS)
    assert keys_of_images(images, 14, SPECIAL, None) is None
    assert keys_of_images(images, 14, SPECIAL, 4 * TOKENS) is None
    keys = keys_of_images(images, 14, SPECIAL, 2 * TOKENS)
    factor = pattern(4, (ROWS, COLUMNS), SPECIAL, 2 * TOKENS).factor
    assert keys is not None
    assert factor > 1
    assert torch.equal(keys, kept_tokens(factor, 4, ROWS, COLUMNS, SPECIAL))
