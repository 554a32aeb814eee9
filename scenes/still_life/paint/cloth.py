"""Linen and printed cloth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from scenes.still_life.paint.ground import Generator, Rgb, Size, Texture, cloud, scattered, texture
from scenes.still_life.paint.plant import leaf


def linen(
    size: Size, rng: Generator, base: Rgb, stripes: Sequence[tuple[float, float, Rgb]]
) -> Texture:
    """Woven cloth: threads both ways, `stripes` (from, to, colour) along x as shares of the
    height."""
    width, height = size
    cloth = np.broadcast_to(np.array(base, dtype=np.float64), (height, width, 3)).copy()
    for start, end, color in stripes:
        cloth[int(start * height) : int(end * height)] = color
    warp = (
        np.sin(np.arange(width) * np.pi / 2.5)[None]
        * np.cos(np.arange(height) * np.pi / 2.5)[:, None]
    )
    slubs = cloud(size, rng, 0.25, (30, 1)) + cloud(size, rng, 0.25, (1, 30))
    return texture(
        cloth * (1 + 0.05 * warp + 0.055 * slubs + 0.03 * cloud(size, rng, 1.2))[..., None]
    )


def print_cloth(size: Size, rng: Generator, base: Rgb, inks: Sequence[Rgb]) -> Texture:
    """Cloth with a hand-blocked print of sprigs and dots."""
    picture = Image.new("RGB", size, base)
    draw = ImageDraw.Draw(picture)
    for x, y in scattered(size, 62, rng):
        angle = rng.uniform(0, 2 * np.pi)
        for k in range(5):
            draw.polygon(leaf((x, y), 26, 11, angle + k * 2 * np.pi / 5), inks[k % 2])
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), inks[2])
        for k in range(5):
            a = angle + (k + 0.5) * 2 * np.pi / 5
            u, v = x + 27 * np.cos(a), y + 27 * np.sin(a)
            draw.ellipse((u - 2.5, v - 2.5, u + 2.5, v + 2.5), inks[2])
    return texture(linen(size, rng, (255, 255, 255), []) / 255.0 * np.array(picture))
