from __future__ import annotations

import numpy as np
import pytest

from scenes.still_life import paint


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


TEXTURES = {
    "planks": lambda: paint.planks((300, 120), 3, rng(), (200, 160, 110), (120, 80, 50)),
    "linen": lambda: paint.linen((120, 90), rng(), (220, 210, 190), [(0.1, 0.2, (40, 60, 110))]),
    "print": lambda: paint.print_cloth((240, 180), rng(), (236, 228, 208), [(46, 72, 120)] * 3),
    "wallpaper": lambda: paint.wallpaper(
        (400, 300), rng(), (52, 84, 88), [(98, 132, 116)], [(226, 196, 150)]
    ),
    "page": lambda: paint.printed_page((300, 420), rng(), "Title", ["words of a page"], True),
    "cover": lambda: paint.book_cover(
        (240, 320), rng(), (36, 66, 84), (222, 186, 112), "A", "B", "waves"
    ),
    "spine": lambda: paint.book_spine((400, 60), rng(), (36, 66, 84), (222, 186, 112), "Tides"),
    "vase": lambda: paint.vase_glaze((600, 400), rng(), (238, 238, 232), (30, 58, 126)),
    "bowl": lambda: paint.bowl_glaze((600, 300), rng(), (240, 234, 220), [(38, 74, 128)] * 3),
    "stoneware": lambda: paint.stoneware(
        (300, 200), rng(), (206, 190, 162), (78, 54, 38), (84, 122, 122)
    ),
    "apple": lambda: paint.apple_skin((300, 200), rng(), (226, 196, 98), (176, 40, 36), 0.6),
    "citrus": lambda: paint.citrus_skin((300, 200), rng(), (238, 138, 32), (206, 104, 16)),
    "pear": lambda: paint.pear_skin((300, 200), rng()),
    "leaves": lambda: paint.leaf_sheet((256, 256), rng(), [(74, 108, 62)]),
    "botanical": lambda: paint.botanical((200, 280), rng(), (196, 92, 74), "Cosmos"),
    "abstract": lambda: paint.abstract((200, 280), rng(), [(196, 90, 62), (32, 56, 70)]),
}


@pytest.mark.parametrize("name", TEXTURES)
def test_a_texture_has_detail_and_is_the_same_each_time(name: str) -> None:
    drawn = TEXTURES[name]()
    assert drawn.dtype == np.uint8
    assert drawn.ndim == 3
    assert drawn.shape[2] == 3
    grey = drawn.mean(axis=2)
    assert np.abs(np.diff(grey, axis=1)).mean() > 0.5
    assert grey.std() > 3
    np.testing.assert_array_equal(drawn, TEXTURES[name]())


@pytest.mark.parametrize("name", ["vase", "bowl", "citrus", "pear", "stoneware"])
def test_what_goes_round_a_vessel_has_no_seam(name: str) -> None:
    drawn = TEXTURES[name]().astype(float)
    seam = np.abs(drawn[:, 0] - drawn[:, -1]).mean()
    assert seam < 2 * np.abs(np.diff(drawn, axis=1)).mean() + 4


def test_noise_has_unit_variance_no_mean_and_fits_at_its_edges() -> None:
    for exponent in (-0.1, 0.5, 2.0):
        noise = paint.cloud((200, 100), rng(), exponent, (3, 1))
        assert noise.shape == (100, 200)
        assert noise.std() == pytest.approx(1)
        assert abs(noise.mean()) < 1e-9
    assert np.abs(noise[:, 0] - noise[:, -1]).mean() < 2 * np.abs(np.diff(noise, axis=1)).mean()


def test_wider_stretch_makes_noise_vary_less_along_x() -> None:
    noise = paint.cloud((256, 256), rng(), 1.0, (20, 1))
    across, along = (np.abs(np.diff(noise, axis=axis)).mean() for axis in (0, 1))
    assert along < across / 3
