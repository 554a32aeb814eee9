from __future__ import annotations

import pytest
import torch

from model.network.position_maps import add_view_position_, sincos, view_grid


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 8), (28, 37)])
def test_codes_per_axis_are_the_code_of_the_grid(height: int, width: int) -> None:
    features = torch.randn(2, 16, height, width)
    grid = view_grid(width, height, 1.3)
    halves = [sincos(grid[..., axis], 8, 100.0) for axis in (0, 1)]  # from x, then from y
    code = torch.cat(halves, dim=-1).permute(2, 0, 1)
    expected = features + 0.1 * code
    assert torch.equal(add_view_position_(features, 1.3), expected)


def test_channels_that_do_not_divide_by_four_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 4 channels, got 6"):
        add_view_position_(torch.zeros(1, 6, 2, 2), 1.0)
