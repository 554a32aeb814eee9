"""Glazed and fired clay."""

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
    mixed,
    texture,
    varied,
)
from scenes.still_life.paint.plant import leaf


def vase_glaze(size: Size, rng: Generator, base: Rgb, ink: Rgb) -> Texture:
    """Blue on white: bands, scrolling stems with leaves, lappets at the foot."""
    width, height = size
    picture = Image.new("RGB", size, base)
    draw = ImageDraw.Draw(picture)

    def wash(share: float) -> Rgb:
        color = np.array(base) + share * (np.array(ink) - np.array(base))
        return tuple(np.int64(color))

    for share, line in (
        (0.13, 9),
        (0.16, 3),
        (0.245, 3),
        (0.265, 9),
        (0.70, 9),
        (0.725, 3),
        (0.93, 3),
        (0.95, 10),
    ):
        draw.line((0, share * height, width, share * height), ink, line)
    for k in range(24):
        x = (k + 0.5) * width / 24
        draw.ellipse(
            (x - 13, height * 0.203 - 13, x + 13, height * 0.203 + 13), outline=ink, width=4
        )
        draw.ellipse((x - 4, height * 0.203 - 4, x + 4, height * 0.203 + 4), fill=ink)
    for k in range(16):
        x, half = (k + 0.5) * width / 16, width / 34
        shape = [
            (x - half, height * 0.93),
            (x - half, height * 0.80),
            (x, height * 0.745),
            (x + half, height * 0.80),
            (x + half, height * 0.93),
        ]
        draw.line(shape, ink, 5, joint="curve")
        draw.polygon(leaf((x, height * 0.915), height * 0.12, half * 1.1, -np.pi / 2), wash(0.55))
    middle, swing = height * 0.48, height * 0.12
    t = np.linspace(0, width, 400)
    stem = middle + swing * np.sin(2 * np.pi * 5 * t / width)
    draw.line(list(zip(t, stem, strict=True)), ink, 7)
    for k in range(60):
        x = (k + rng.uniform(-0.2, 0.2)) * width / 60
        y = middle + swing * np.sin(2 * np.pi * 5 * x / width)
        side = -1 if k % 2 else 1
        for turn in (-width, 0, width):
            shape = leaf(
                (x + turn, y),
                height * rng.uniform(0.07, 0.11),
                height * 0.035,
                side * (1.1 + rng.normal(0, 0.2)),
            )
            draw.polygon(shape, wash(rng.uniform(0.45, 0.95)))
            draw.line([*shape, shape[0]], ink, 2)
    for k in range(10):
        x = (k / 10 + 0.05) * width
        y = middle - swing * 0.25 * np.sin(2 * np.pi * 5 * x / width)
        for petal in range(9):
            shape = leaf((x, y), height * 0.085, height * 0.045, petal * 2 * np.pi / 9, 1.6)
            draw.polygon(shape, wash(0.62 if petal % 2 else 0.82))
            draw.line([*shape, shape[0]], ink, 2)
        draw.ellipse((x - 12, y - 12, x + 12, y + 12), base, ink, 4)
    return _fired(picture, rng)


def bowl_glaze(size: Size, rng: Generator, base: Rgb, inks: Sequence[Rgb]) -> Texture:
    """Painted bands: brush leaves, dots and lozenges in several colours."""
    width, height = size
    picture = Image.new("RGB", size, base)
    draw = ImageDraw.Draw(picture)
    for share in (0.52, 0.545, 0.63, 0.80, 0.83):
        draw.line((0, share * height, width, share * height), inks[0], 6)
    for share in (0.06, 0.16, 0.30, 0.42):
        draw.line((0, share * height, width, share * height), inks[1], 5)
    for k in range(40):
        x = (k + 0.5) * width / 40
        y = height * 0.587
        draw.ellipse((x - 10, y - 10, x + 10, y + 10), inks[1 + k % 2])
        draw.ellipse((x - 8, height * 0.36 - 8, x + 8, height * 0.36 + 8), inks[k % 3])
    for k in range(28):
        x, y = (k + 0.5) * width / 28, height * 0.715
        for side in (-1, 1):
            draw.polygon(
                leaf((x, y), height * 0.085, height * 0.035, side * 0.9 - np.pi / 2), inks[2]
            )
            draw.polygon(
                leaf((x, y), height * 0.085, height * 0.035, side * 0.9 + np.pi / 2), inks[0]
            )
        r = 7
        draw.ellipse((x - r, y - r, x + r, y + r), inks[1])
    return _fired(picture, rng)


def plate_glaze(side: int, rng: Generator, base: Rgb, inks: Sequence[Rgb]) -> Texture:
    """A plate seen from above: a bird's nest of rings, petals and a wreath."""
    picture = Image.new("RGB", (side, side), base)
    draw = ImageDraw.Draw(picture)
    middle = side / 2

    def ring(share: float, line: int, color: Rgb) -> None:
        r = share * middle
        draw.ellipse((middle - r, middle - r, middle + r, middle + r), outline=color, width=line)

    for share, line, color in (
        (0.97, 14, inks[0]),
        (0.91, 4, inks[0]),
        (0.64, 5, inks[0]),
        (0.60, 3, inks[1]),
        (0.2, 6, inks[0]),
    ):
        ring(share, line, color)
    for k in range(36):
        a = 2 * np.pi * k / 36
        place = middle + 0.775 * middle * np.cos(a), middle + 0.775 * middle * np.sin(a)
        for turn in (-0.8, 0.8):
            draw.polygon(
                leaf(place, side * 0.06, side * 0.022, a + np.pi / 2 + turn), inks[1 + k % 2]
            )
        x, y = place
        draw.ellipse((x - 7, y - 7, x + 7, y + 7), inks[0])
    for count, length, color, shift in (
        (12, 0.34, inks[1], 0.0),
        (12, 0.25, inks[0], 0.5),
        (8, 0.16, inks[2], 0.0),
    ):
        for k in range(count):
            a = 2 * np.pi * (k + shift) / count
            draw.polygon(
                leaf((middle, middle), side * length / 1.25, side * length * 0.24, a, 1.2), color
            )
    draw.ellipse((middle - 26, middle - 26, middle + 26, middle + 26), base, inks[0], 6)
    return _fired(picture, rng)


def stoneware(
    size: Size, rng: Generator, base: Rgb, speck: Rgb, dipped: Rgb | None = None
) -> Texture:
    """Glaze with iron specks; `dipped`: the colour of a second glaze over the upper part."""
    width, height = size
    glaze = np.broadcast_to(np.array(base, dtype=np.float64), (height, width, 3)).copy()
    if dipped is not None:
        angle = np.arange(width) / width * 2 * np.pi
        waves = 0.03 * np.sin(2 * angle + 1) + 0.014 * np.sin(7 * angle)
        edge = height * (0.52 + waves + 0.006 * np.sin(19 * angle))
        over = np.clip((edge[None] - np.arange(height)[:, None]) / 6, 0, 1)
        glaze = mixed(over, base, dipped)
    picture = Image.fromarray(texture(glaze))
    draw = ImageDraw.Draw(picture)
    for _ in range(size[0] * size[1] // 900):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.exponential(1.0) + 0.5
        draw.ellipse(
            (x - r, y - r, x + r, y + r), tuple(np.int64(np.array(speck) * rng.uniform(0.7, 1.5)))
        )
    return _fired(picture, rng)


def terracotta(size: Size, rng: Generator) -> Texture:
    """Unglazed clay with lime stains."""
    stains = np.clip(cloud(size, rng, 1.3) - 0.9, 0, 1.2) * 0.45
    clay = mixed(stains, (181, 96, 62), (214, 186, 160))
    return texture(clay * (1 + 0.06 * cloud(size, rng, 0.4))[..., None])


def _fired(picture: Image.Image, rng: Generator) -> Texture:
    return varied(picture, rng, 0.03, 1.1)
