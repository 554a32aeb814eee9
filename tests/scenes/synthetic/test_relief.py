from __future__ import annotations

import numpy as np
import pytest
import torch

from scenes.synthetic.relief import GRID, LOWEST, Relief, Surface, draw_heights, relief_entry

# the camera looks along -z
DOWN = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]]])


def surface(heights: np.ndarray, amplitude: float = 0.5, period: float = 3.0) -> Surface:
    return Surface(
        Relief(
            torch.from_numpy(heights).float()[None],
            torch.tensor([amplitude]),
            torch.tensor([period]),
        )
    )


def test_heights_fill_their_range_and_their_edges_fit_together() -> None:
    for seed in range(20):
        heights = draw_heights(np.random.default_rng(seed))
        assert heights.shape == (GRID, GRID)
        assert heights.min() == pytest.approx(LOWEST)
        assert heights.max() == pytest.approx(1.0)
        steps = np.abs(np.diff(heights, axis=0))
        assert np.abs(heights[0] - heights[-1]).max() < 1.5 * steps.max() + 1e-9


def test_a_plane_is_met_where_it_lies() -> None:
    flat = surface(np.full((GRID, GRID), 0.4))
    x, y = torch.tensor([[[-0.5, 0.0, 1.0]]]), torch.tensor([[[0.25]]])
    depth = relief_entry(flat, DOWN, torch.tensor([[0.3, -0.2, 2.0]]), x, y)
    torch.testing.assert_close(depth, torch.full((1, 1, 3), 1.8), atol=2e-3, rtol=0)


def test_every_hit_lies_on_the_surface() -> None:
    for seed in range(6):
        bumpy = surface(draw_heights(np.random.default_rng(seed)))
        origin = torch.tensor([[0.2, 0.1, 1.6]])
        x, y = (
            torch.linspace(-0.8, 0.8, 40)[None, None],
            torch.linspace(-0.8, 0.8, 40)[None, :, None],
        )
        depth = relief_entry(bumpy, DOWN, origin, x, y)
        assert depth.isfinite().all()
        px, py, pz = 0.2 + x * depth, 0.1 + y * depth, 1.6 - depth
        apart = (bumpy.height(px, py) - pz).abs()
        assert apart.quantile(0.98) < 0.01


def test_what_looks_away_meets_nothing() -> None:
    bumpy = surface(draw_heights(np.random.default_rng(0)))
    away = DOWN * torch.tensor([1.0, 1.0, -1.0])[:, None]
    nothing = torch.zeros(1, 1, 1)
    assert (
        relief_entry(bumpy, away, torch.tensor([[0.0, 0.0, 2.0]]), nothing, nothing).isinf().all()
    )


def test_the_slope_is_the_derivative_of_the_height() -> None:
    bumpy = surface(draw_heights(np.random.default_rng(3)))
    generator = torch.Generator().manual_seed(0)
    x, y = (3 * torch.rand(1, 20, 20, generator=generator) for _ in range(2))
    slope_x, slope_y = bumpy.slope(x, y)
    small = 1e-3
    by_x = (bumpy.height(x + small, y) - bumpy.height(x - small, y)) / (2 * small)
    by_y = (bumpy.height(x, y + small) - bumpy.height(x, y - small)) / (2 * small)
    # the others cross a line of the grid
    assert ((slope_x - by_x).abs() < 0.05).float().mean() > 0.9
    assert ((slope_y - by_y).abs() < 0.05).float().mean() > 0.9
