from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenes.still_life.books import books, open_book
from scenes.still_life.cameras import intrinsic, walk
from scenes.still_life.crockery import tea
from scenes.still_life.flowers import bouquet, vase
from scenes.still_life.fruit import bowl
from scenes.still_life.room import WALL
from scenes.still_life.table import postcards
from scenes.still_life.thing import Thing

BUNDLED = Path(__file__).parents[3] / "service" / "samples" / "still-life"
MAKERS = (bowl, vase, bouquet, books, open_book, tea, postcards)


def made(maker: Callable[[np.random.Generator], Iterator[Thing]], seed: int = 7) -> list[Thing]:
    return list(maker(np.random.default_rng([seed, 1])))


@pytest.fixture(scope="module")
def things() -> dict[str, Thing]:
    return {thing.name: thing for maker in MAKERS for thing in made(maker)}


def test_meshes_are_whole_and_have_textures(things: dict[str, Thing]) -> None:
    for thing in things.values():
        mesh = thing.mesh
        assert np.isfinite(mesh.points).all()
        np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-6)
        assert mesh.faces.min() >= 0
        assert mesh.faces.max() < len(mesh.points)
        assert mesh.uv.min() >= -1e-9
        assert mesh.uv.max() <= 1 + 1e-9
        assert thing.finish.texture.dtype == np.uint8
        assert thing.finish.texture.shape[2] == 3


def test_everything_stands_on_the_table_in_front_of_the_wall(things: dict[str, Thing]) -> None:
    for thing in things.values():
        low, high = thing.mesh.bounds
        # petals lie in the wood with their lower half, which nobody sees
        assert low[1] > (-0.02 if thing.name == "fallen petals" else -0.001), thing.name
        assert low[2] > WALL, thing.name
        assert abs(low[0]) < 1.2, thing.name
        assert high[1] < 0.8, thing.name
    for name in ("vase", "teapot", "saucer", "Tides boards", "open boards"):
        assert things[name].mesh.bounds[0][1] < 0.002, name


def test_books_lie_on_each_other(things: dict[str, Thing]) -> None:
    heights = [
        things[f"{name} boards"].mesh.bounds for name in ("Tides", "A Year of Herbs", "Light")
    ]
    for below, above in pairwise(heights):
        assert below[1][1] == pytest.approx(above[0][1], abs=2e-3)
    assert things["pot"].mesh.bounds[0][1] == pytest.approx(heights[-1][1][1], abs=2e-3)


def test_the_same_seed_gives_the_same_bits() -> None:
    for first, second in zip(made(tea), made(tea), strict=True):
        np.testing.assert_array_equal(first.mesh.points, second.mesh.points)
        np.testing.assert_array_equal(first.finish.texture, second.finish.texture)


@pytest.mark.parametrize("name", ["vase", "teapot", "Tides face", "page The Garden"])
def test_the_bundled_depth_is_that_of_the_script(things: dict[str, Thing], name: str) -> None:
    """No vertex of the script's meshes lies in front of the bundled depth; many lie at it."""
    frames = json.loads((BUNDLED / "cameras.json").read_text())["frames"]
    points = things[name].mesh.points
    met = 0
    for frame, camera in zip(frames, walk(7), strict=True):
        with Image.open(BUNDLED / frame["depth"]) as picture:
            depth = np.array(picture).astype(float) / 1000
        local = points @ camera.extrinsic[:, :3].T + camera.extrinsic[:, 3]
        pixels = local @ intrinsic(depth.shape[1]).T
        x, y = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).T
        inside = (x >= 1) & (y >= 1) & (x < depth.shape[1] - 1) & (y < depth.shape[0] - 1)
        x, y, own = x[inside], y[inside], local[inside, 2]
        around = np.stack([depth[y + i, x + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
        assert (own > 0.99 * around.min(axis=0)).mean() > 0.99
        met += int((np.abs(around / own - 1).min(axis=0) < 0.003).sum())
    assert met > 100
