from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from scenes.synthetic.textures import FIELDS, albedo, draw_textures, put_tiles


def paint(pixel: float, extent: float = 4.0, slope: float = 0.0) -> Tensor:
    """Colours [surfaces,3,N,N] of the six faces of a room over `extent` metres, `pixel` metres wide
    each."""
    parameters = torch.from_numpy(draw_textures(np.random.default_rng(5), 1)[0]).float()
    ticks = torch.arange(0, extent, 0.05)
    s, t = torch.meshgrid(ticks, ticks, indexing="ij")
    rows = parameters.T[:, :, None, None].expand(-1, -1, *s.shape)
    s, t = s.expand(6, -1, -1), t.expand(6, -1, -1)
    tilt, width = torch.full_like(s, slope), torch.full_like(s, pixel)
    return torch.stack(albedo(rows, s, t, tilt, tilt, width), dim=1)


def test_every_face_has_contrast_where_it_is_resolved() -> None:
    assert (paint(0.02).mean(dim=1).flatten(1).std(dim=1) > 0.04).all()


def test_a_footprint_wider_than_the_pattern_leaves_an_even_colour() -> None:
    sharp, blurred = (paint(width).mean(dim=1).flatten(1).std(dim=1) for width in (0.02, 30.0))
    assert (blurred < 0.3 * sharp).all()


def test_a_tilted_surface_blurs_like_a_distant_one() -> None:
    flat, tilted = (
        paint(0.02, slope=slope).mean(dim=1).flatten(1).std(dim=1) for slope in (0.0, 1000.0)
    )
    assert (tilted < 0.6 * flat).all()


def test_a_filtered_colour_is_the_mean_of_what_it_covers() -> None:
    exact, filtered = paint(0.02, extent=8.0), paint(30.0, extent=8.0)
    assert ((exact.mean(dim=(2, 3)) - filtered.mean(dim=(2, 3))).abs() < 0.12).all()


@pytest.mark.parametrize("solid", [0, 1, 4])
def test_only_the_room_changes_style_from_face_to_face(solid: int) -> None:
    parameters = draw_textures(np.random.default_rng(0), 5)
    assert parameters.shape == (5, 6, len(FIELDS))
    assert np.isfinite(parameters).all()
    style = parameters[solid][
        :, [FIELDS.index(name) for name in ("u_duty", "noise_scale", "relief")]
    ]
    place = parameters[solid][:, [FIELDS.index(name) for name in ("u_offset", "v_offset")]]
    assert (np.ptp(style, axis=0) > 0).any() == (solid == 0)
    assert len(np.unique(place, axis=0)) == 6


def test_tiles_replace_the_patterns_of_a_share_of_the_surfaces_and_of_whole_objects() -> None:
    parameters = draw_textures(np.random.default_rng(0), 400)
    assert (parameters[..., FIELDS.index("tile")] == -1).all()
    put_tiles(np.random.default_rng(1), parameters, 0.3)
    tile = parameters[..., FIELDS.index("tile")]
    assert (tile >= 0).mean() == pytest.approx(0.3, abs=0.07)
    assert (tile[1:] == tile[1:, :1]).all()
    put_tiles(np.random.default_rng(1), parameters, 1.0)
    assert (parameters[..., FIELDS.index("tile")] >= 0).all()
