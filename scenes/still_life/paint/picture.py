"""Pictures on the wall."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

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
from scenes.still_life.paint.plant import sprig


def landscape(size: Size, rng: Generator) -> Texture:
    """Hills by a lake in the evening, put down in brush strokes."""
    width, height = size
    x = np.arange(width)[None] / width
    y = np.arange(height)[:, None] / height
    scene = mixed(y / 0.45 + 0 * x, (122, 156, 186), (246, 208, 150))
    sun = np.exp(-(((x - 0.64) / 0.10) ** 2 + ((y - 0.36) / 0.09) ** 2))
    scene = scene + sun[..., None] * np.array([46, 34, 0])
    layers = (
        (0.44, 0.05, (150, 152, 168), 1.9),
        (0.50, 0.06, (112, 126, 140), 1.9),
        (0.57, 0.05, (88, 108, 104), 1.7),
        (0.64, 0.03, (78, 98, 70), 1.5),
    )
    for level, swing, color, exponent in layers:
        ridge = level + swing * cloud((width, 8), rng, exponent, (1, 50))[0] / 1.6
        inside = np.clip((y - ridge[None]) * height / 3, 0, 1)[..., None]
        shaded = np.array(color) * (1 + 0.10 * cloud(size, rng, 1.1, (2, 1)))[..., None]
        scene = scene * (1 - inside) + inside * shaded
    water = np.clip((y - 0.70) * height / 4, 0, 1)[..., None] * np.ones((1, width, 1))
    lake = mixed((y - 0.7) / 0.3 + 0 * x, (226, 190, 150), (70, 104, 128))
    lake = lake * (1 + 0.16 * cloud(size, rng, 0.9, (14, 1)))[..., None]
    scene = scene * (1 - water) + water * lake
    picture = Image.fromarray(texture(scene))
    return _brushed(picture, rng)


def _brushed(picture: Image.Image, rng: Generator) -> Texture:
    """Strokes that each take the colour under them."""
    width, height = picture.size
    source = np.array(picture)
    draw = ImageDraw.Draw(picture)
    for length, thick, count in ((46, 15, 2600), (26, 8, 9000), (15, 4, 14000)):
        for _ in range(count):
            u, v = rng.uniform(0, width), rng.uniform(0, height)
            color = source[int(v), int(u)] * rng.uniform(0.86, 1.13) + rng.normal(0, 5, 3)
            angle = rng.normal(0, 0.35)
            du, dv = length / 2 * np.cos(angle), length / 2 * np.sin(angle)
            fill = tuple(int(c) for c in np.clip(color, 0, 255))
            draw.line((u - du, v - dv, u + du, v + dv), fill, thick)
    return varied(picture, rng, 0.03, 0.4)


def botanical(size: Size, rng: Generator, flower: Rgb, name: str) -> Texture:
    """A plant on cream paper with its name underneath."""
    width, height = size
    picture = Image.new("RGB", size, (238, 228, 204))
    draw = ImageDraw.Draw(picture)
    greens = [(74, 98, 66), (98, 120, 78)]
    for start in (-0.16, 0.15, 0.0):
        sprig(
            draw,
            (width * (0.5 + start * 0.5), height * 0.84),
            height * (0.72 - abs(start)),
            rng,
            greens,
            flower,
            start * 2.2,
        )
    draw.text(
        (width / 2, height * 0.92),
        name,
        (70, 60, 50),
        ImageFont.load_default(height / 26),
        anchor="mm",
    )
    return varied(picture, rng, 0.025)


def abstract(size: Size, rng: Generator, inks: Sequence[Rgb]) -> Texture:
    """Arches, discs and stripes cut from paper."""
    width, height = size
    picture = Image.new("RGB", size, (236, 224, 202))
    draw = ImageDraw.Draw(picture)
    cell = width / 4
    for row in range(int(height / cell) + 1):
        for column in range(4):
            x, y = column * cell, row * cell
            a, b = (inks[k] for k in rng.choice(len(inks), 2, replace=False))
            draw.rectangle((x, y, x + cell, y + cell), a)
            kind = rng.integers(4)
            if kind == 0:
                draw.pieslice((x - cell, y, x + cell, y + 2 * cell), 270, 360, b)
            elif kind == 1:
                for k in range(4):
                    q = cell * (0.46 - 0.11 * k)
                    draw.ellipse(
                        (x + cell / 2 - q, y + cell / 2 - q, x + cell / 2 + q, y + cell / 2 + q),
                        b if k % 2 == 0 else a,
                    )
            elif kind == 2:
                for k in range(4):
                    draw.rectangle((x, y + k * cell / 4, x + cell, y + (k + 0.5) * cell / 4), b)
            else:
                draw.polygon([(x, y), (x + cell, y), (x, y + cell)], b)
    return varied(picture, rng, 0.04)
