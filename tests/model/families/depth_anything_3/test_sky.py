from __future__ import annotations

import torch

from model.families.depth_anything_3.sky import is_sky, with_far_sky


def test_sky_begins_at_the_threshold_itself() -> None:
    assert is_sky(torch.tensor([0.29, 0.3, 0.31])).tolist() == [False, True, True]


def test_the_sky_stays_where_there_is_little_of_it_or_of_all_else() -> None:
    depth, sky = torch.linspace(1, 2, 100), torch.zeros(100)
    for few, many in ((10, 11), (90, 89)):
        left, moved = sky.clone(), sky.clone()
        left[:few] = moved[:many] = 1
        assert torch.equal(with_far_sky(depth, left), depth)
        assert not torch.equal(with_far_sky(depth, moved), depth)
