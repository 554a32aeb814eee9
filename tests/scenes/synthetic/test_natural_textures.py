from __future__ import annotations

import numpy as np
import torch

from scenes.synthetic.natural_textures import TILES, tile_colours


def tile(
    index: int, step: float = 1.0, width: float = 1.0, size: int = 256, start: float = 0.5
) -> torch.Tensor:
    """Colours [3, size, size] of a tile, sampled every `step` texels at a footprint of `width`
    texels."""
    ticks = start + step * torch.arange(size)
    v, u = torch.meshgrid(ticks, ticks, indexing="ij")
    return torch.stack(
        tile_colours(u, v, torch.full_like(u, width), torch.full_like(u, index, dtype=torch.int32))
    )


def test_tiles_are_pictures_within_range_with_contrast_and_differ() -> None:
    tiles = [tile(index) for index in range(TILES)]
    for found in tiles:
        assert found.min() >= 0
        assert found.max() <= 1
        assert found.std() > 0.05
    assert not any(torch.equal(tiles[0], other) for other in tiles[1:])


def test_a_tile_repeats_and_its_edges_fit_together() -> None:
    for index in range(4):
        one, shifted = tile(index, size=64), tile(index, size=64, start=256.5)
        torch.testing.assert_close(one, shifted, atol=1e-4, rtol=0)
        whole = tile(index)
        across = (whole[:, :, 0] - whole[:, :, -1]).abs().mean()
        within = (whole[:, :, 1:] - whole[:, :, :-1]).abs().mean()
        assert across < 2 * within


def test_a_wide_footprint_sees_the_mean_of_what_it_covers() -> None:
    sharp = tile(1)
    covered = torch.nn.functional.avg_pool2d(sharp, 16)
    seen = tile(1, step=16.0, width=16.0, size=16, start=8.0)
    torch.testing.assert_close(seen, covered, atol=0.02, rtol=0)


def test_contrast_falls_with_the_frequency_as_in_photographs() -> None:
    slopes = []
    for index in range(8):
        grey = tile(index).mean(dim=0).numpy()
        amplitude = np.abs(np.fft.fft2(grey - grey.mean()))
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256))) * 256
        rings = [
            amplitude[(frequency >= low) & (frequency < 2 * low)].mean() for low in (4, 8, 16, 32)
        ]
        slopes.append(np.polyfit(np.log([6, 12, 24, 48]), np.log(rings), 1)[0])
    assert -1.7 < np.mean(slopes) < -0.6
