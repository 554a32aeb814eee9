"""Skins of fruit."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from scenes.still_life.paint.ground import Generator, Rgb, Size, Texture, cloud, mixed, texture


def apple_skin(size: Size, rng: Generator, ground: Rgb, blush: Rgb, amount: float) -> Texture:
    """Streaks of red over yellow, pale lenticels."""
    width, height = size
    x = np.arange(width)[None] / width * 2 * np.pi
    side = 0.5 + 0.42 * np.cos(x - rng.uniform(0, 6)) + 0 * np.arange(height)[:, None]
    streaks = cloud(size, rng, 0.8, (1, 9))
    share = amount + 0.42 * (side - 0.5) + 0.17 * streaks + 0.1 * cloud(size, rng, 1.4)
    pole = np.arange(height)[:, None] / height
    share = share - 0.75 * np.exp(-pole * 11) - 0.3 * np.exp(-(1 - pole) * 9)
    skin = mixed(share, ground, blush)
    skin *= (1 - 0.22 * np.clip(share - 0.8, 0, 1))[..., None]
    dots = Image.new("L", size, 0)
    draw = ImageDraw.Draw(dots)
    for _ in range(520):
        u, v, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.8, 2.2)
        draw.ellipse((u - r, v - r, u + r, v + r), int(rng.uniform(60, 190)))
    pale = np.array(dots)[..., None] / 255
    return texture(skin * (1 - pale) + pale * np.array([238, 214, 150]))


def citrus_skin(size: Size, rng: Generator, base: Rgb, pit: Rgb) -> Texture:
    """Pits all over, some green at the stem."""
    pits = np.clip(
        cloud(size, rng, -0.1) * 0.4 + cloud((size[0], size[1]), rng, 0.5) * 0.45 - 0.2, 0, 1
    )
    skin = mixed(pits * 0.75, base, pit)
    pole = np.exp(-np.arange(size[1])[:, None, None] / size[1] * 14)
    skin = skin * (1 - 0.5 * pole) + 0.5 * pole * np.array([150, 150, 60])
    return texture(skin * (1 + 0.035 * cloud(size, rng, 1.3))[..., None])


def pear_skin(size: Size, rng: Generator) -> Texture:
    """Green to yellow, russet freckles."""
    height = size[1]
    share = 0.5 + 0.25 * cloud(size, rng, 1.5)
    skin = mixed(share, (170, 172, 66), (214, 186, 84))
    freckles = np.clip(cloud(size, rng, 0.15) - 1.5, 0, 1)[..., None]
    russet = np.clip(
        0.25 * cloud(size, rng, 1.0) + 0.9 - 5 * np.arange(height)[:, None] / height, 0, 0.8
    )
    skin = skin * (1 - freckles) + freckles * np.array([120, 84, 36])
    return texture(skin * (1 - russet[..., None]) + russet[..., None] * np.array([150, 108, 56]))
