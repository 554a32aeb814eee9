from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from quantvggt.demo.overview import View, draw_overview

PREDICTED, TRUE = (214, 60, 40), (30, 110, 60)


def has(picture: Image.Image, color: tuple[int, int, int]) -> bool:
    """Whether at least ten pixels have nearly this colour."""
    away = np.abs(np.array(picture).astype(int) - color).max(axis=2)
    return int((away < 24).sum()) >= 10


def scene(count: int = 3) -> tuple[list[View], np.ndarray, np.ndarray, np.ndarray]:
    """Views, points on a wall two to four units ahead, their colour, cameras in a row."""
    view = View(Image.new("RGB", (60, 40), (1, 2, 120)), Image.new("RGB", (60, 40), (120, 5, 6)))
    cameras = np.stack([np.eye(3, 4)] * count)
    cameras[:, 0, 3] = -0.4 * np.arange(count)
    points = np.random.default_rng(0).uniform([-1, -1, 2], [1, 1, 4], (60_000, 3))
    return [view] * count, points, np.full((60_000, 3), (90, 150, 210), np.uint8), cameras


def test_views_points_and_both_sets_of_cameras_are_drawn() -> None:
    views, points, colors, cameras = scene()
    alone = draw_overview(views, points, colors, cameras)
    for color in ((1, 2, 120), (120, 5, 6), (90, 150, 210), PREDICTED):
        assert has(alone, color)
    assert not has(alone, TRUE)
    assert has(draw_overview(views, points, colors, cameras, 1.2 * cameras), TRUE)


def test_a_scene_without_points_is_drawn() -> None:
    views, _, _, cameras = scene(1)
    picture = draw_overview(views, np.zeros((0, 3)), np.zeros((0, 3), np.uint8), cameras)
    assert has(picture, PREDICTED)


def test_what_is_near_hides_what_is_far() -> None:
    views, _, _, cameras = scene()
    x, y = (grid.ravel() for grid in np.meshgrid(*[np.linspace(-1, 1, 300)] * 2))
    near = np.stack([0.5 * x, 0.5 * y, np.full_like(x, 3)], axis=1)
    far = np.stack([0.3 * x, 0.3 * y, np.full_like(x, 3.4)], axis=1)
    colors = np.repeat(np.array([[200, 40, 160], [90, 150, 210]], np.uint8), len(x), axis=0)
    drawn = draw_overview(views, np.concatenate([near, far]), colors, cameras)
    assert has(drawn, (200, 40, 160))
    pixels = np.array(drawn).astype(int)
    front = (np.abs(pixels - [200, 40, 160]).max(axis=2) < 24).sum()
    behind = (np.abs(pixels - [90, 150, 210]).max(axis=2) < 24).sum()
    assert behind < 0.2 * front


@pytest.mark.parametrize("count", [1, 2, 8, 20])
def test_any_number_of_pictures_fits_the_same_width(count: int) -> None:
    views, points, colors, cameras = scene(count)
    assert draw_overview(views, points, colors, cameras).width == 1600
