from __future__ import annotations

import numpy as np
from PIL import Image

from quantvggt.demo.overview import View, draw_overview

PREDICTED, TRUE = (214, 60, 40), (30, 110, 60)


def colors_of(picture: Image.Image) -> set[tuple[int, ...]]:
    return {color for _, color in picture.getcolors(1 << 24)}


def test_views_points_and_both_sets_of_cameras_are_drawn() -> None:
    view = View(Image.new("RGB", (40, 60), (1, 2, 3)), Image.new("RGB", (40, 60), (4, 5, 6)))
    cameras = np.stack([np.eye(3, 4), np.eye(3, 4)])
    cameras[1, 0, 3] = -1
    points = np.random.default_rng(0).uniform([-1, -1, 2], [1, 1, 4], (2000, 3))
    colors = np.full((2000, 3), (7, 8, 9), np.uint8)
    alone = colors_of(draw_overview([view, view], points, colors, cameras))
    assert {(1, 2, 3), (4, 5, 6), (7, 8, 9), PREDICTED} <= alone
    assert TRUE not in alone
    assert TRUE in colors_of(draw_overview([view, view], points, colors, cameras, 1.2 * cameras))


def test_a_scene_without_points_is_drawn() -> None:
    view = View(Image.new("RGB", (60, 40)), Image.new("RGB", (60, 40)))
    picture = draw_overview(
        [view], np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.eye(3, 4)[None]
    )
    assert PREDICTED in colors_of(picture)
