"""Leaves, petals and sprigs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import ImageDraw

from scenes.still_life.paint.ground import Generator, Rgb, Size, Texture, cloud, mixed, texture


def leaf_sheet(size: Size, rng: Generator, greens: Sequence[Rgb]) -> Texture:
    """Four by four leaves with veins, one a cell; each runs from the top of its cell down."""
    width, height = size
    cells = []
    for _ in range(4):
        row = []
        for _ in range(4):
            row.append(
                _leaf_cell((width // 4, height // 4), rng, greens[int(rng.integers(len(greens)))])
            )
        cells.append(np.concatenate(row, axis=1))
    return np.concatenate(cells)


def _leaf_cell(size: Size, rng: Generator, green: Rgb) -> Texture:
    width, height = size
    x = (np.arange(width)[None] + 0.5) / width - 0.5
    y = np.arange(height)[:, None] / height
    veins = np.abs(((y - 1.1 * np.abs(x)) * 9) % 1 - 0.5)
    pale = np.exp(-((x / 0.025) ** 2)) + 0.5 * np.exp(-((veins / 0.07) ** 2))
    shade = 1 + 0.10 * cloud(size, rng, 1.0) + rng.uniform(-0.14, 0.14)
    color = np.array(green) * shade[..., None]
    return texture(
        color * (1 - 0.42 * pale[..., None]) + 0.42 * pale[..., None] * np.array([196, 204, 150])
    )


def petal(size: Size, rng: Generator, base: Rgb, heart: Rgb) -> Texture:
    """A petal from its heart (top) to its rim, with fine lines along it."""
    width, height = size
    y = np.arange(height)[:, None] / height
    lines = cloud(size, rng, 0.5, (1, 25))
    share = np.exp(-y * 5) + 0.09 * lines + 0 * np.arange(width)[None]
    return texture(mixed(share, base, heart) * (1 + 0.035 * lines)[..., None])


def leaf(
    place: tuple[float, float], length: float, width: float, angle: float, tip: float = 1.0
) -> list[tuple[float, float]]:
    """The outline of a leaf from `place` along `angle` (radians, y downwards)."""
    t = np.linspace(0, 1, 12)
    half = width / 2 * np.sin(np.pi * t**0.85) ** (1 / tip)
    along, across = np.r_[t, t[::-1]] * length, np.r_[half, -half[::-1]]
    x = place[0] + along * np.cos(angle) - across * np.sin(angle)
    y = place[1] + along * np.sin(angle) + across * np.cos(angle)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def sprig(
    draw: ImageDraw.ImageDraw,
    foot: tuple[float, float],
    length: float,
    rng: Generator,
    greens: Sequence[Rgb],
    flower: Rgb,
    lean: float = 0.0,
) -> None:
    """A stem upwards from `foot` with leaves, and a flower on top."""
    heading, step = -np.pi / 2 + lean * 0.4, length / 14
    path = [foot]
    for _ in range(13):
        heading += rng.normal(0, 0.05) + lean * 0.03
        path.append((path[-1][0] + step * np.cos(heading), path[-1][1] + step * np.sin(heading)))
    draw.line(path, greens[0], max(2, int(length / 110)), joint="curve")
    for k in range(2, 12):
        for side in (-1, 1):
            size = length * 0.17 * (1.1 - k / 16)
            shape = leaf(path[k], size, size * 0.36, heading + side * rng.uniform(0.6, 1.1))
            draw.polygon(shape, greens[int(rng.integers(len(greens)))])
    x, y = path[-1]
    for k in range(8):
        draw.polygon(leaf((x, y), length * 0.1, length * 0.05, k * np.pi / 4, 1.5), flower)
    r = length * 0.02
    draw.ellipse((x - r, y - r, x + r, y + r), greens[0])
