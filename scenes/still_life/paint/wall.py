"""Wallpaper and plaster."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from scenes.still_life.paint.ground import (
    Generator,
    Rgb,
    Size,
    Texture,
    cloud,
    scattered,
    texture,
    varied,
)
from scenes.still_life.paint.plant import leaf


def wallpaper(
    size: Size, rng: Generator, base: Rgb, inks: Sequence[Rgb], flowers: Sequence[Rgb]
) -> Texture:
    """Hand-painted branches, leaves and blossoms; nothing repeats."""
    picture = Image.new("RGB", size, base)
    draw = ImageDraw.Draw(picture)
    blossoms = []
    for x, y in scattered(size, 170, rng):
        heading = rng.uniform(0, 2 * np.pi)
        turn = rng.uniform(-0.16, 0.16)
        ink = np.array(inks[int(rng.integers(len(inks)))])
        path = [(x, y)]
        for _ in range(15):
            heading += turn + rng.normal(0, 0.05)
            path.append((path[-1][0] + 16 * np.cos(heading), path[-1][1] + 16 * np.sin(heading)))
        draw.line(path, tuple(np.int64(ink * 0.8)), 3, joint="curve")
        for k, place in enumerate(path[2:], 2):
            for side in (-1, 1):
                way = np.arctan2(path[k][1] - path[k - 1][1], path[k][0] - path[k - 1][0])
                length = rng.uniform(26, 46) * (1 - 0.03 * k)
                shade = tuple(np.int64(ink * rng.uniform(0.72, 1.12)))
                shape = leaf(place, length, length * 0.36, way + side * rng.uniform(0.5, 1.0))
                draw.polygon(shape, shade)
                draw.line([shape[0], shape[len(shape) // 2]], tuple(np.int64(ink * 0.62)), 1)
        blossoms.append(path[-1])
    for place in blossoms:
        color = np.array(flowers[int(rng.integers(len(flowers)))])
        radius, start = rng.uniform(13, 24), rng.uniform(0, 6)
        for k in range(6):
            shade = tuple(np.int64(color * rng.uniform(0.85, 1.05)))
            draw.polygon(leaf(place, radius * 1.5, radius, start + k * np.pi / 3, 1.7), shade)
        x, y = place
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), tuple(np.int64(color * 0.55)))
    for x, y in scattered(size, 60, rng):
        r = rng.uniform(1.5, 3.5)
        draw.ellipse((x - r, y - r, x + r, y + r), tuple(np.int64(np.array(inks[0]) * 0.9)))
    return varied(picture, rng, 0.045)


def plaster(size: Size, rng: Generator, base: Rgb) -> Texture:
    """Lime plaster: soft clouds and trowel marks."""
    marks = cloud(size, rng, 0.9, (2, 1))
    return texture(np.array(base) * (1 + 0.025 * cloud(size, rng, 1.5) + 0.02 * marks)[..., None])
