"""Boards."""

from __future__ import annotations

import numpy as np

from scenes.still_life.paint.ground import (
    Array,
    Generator,
    Rgb,
    Size,
    Texture,
    cloud,
    mixed,
    texture,
)


def planks(size: Size, count: int, rng: Generator, light: Rgb, dark: Rgb) -> Texture:
    """Boards along x, each with rings, fibres and pores of its own."""
    width, height = size
    board = height // count
    rows = []
    for _ in range(count):
        rows.append(_board((width, board), rng, light, dark))
    rows.append(rows[-1][: height - board * count])
    return texture(np.concatenate(rows))


def _board(size: Size, rng: Generator, light: Rgb, dark: Rgb) -> Array:
    width, height = size
    y = (np.arange(height)[:, None] - height * rng.uniform(-0.3, 1.3)) / 380
    x = np.arange(width)[None] / 380
    bent = 0.10 * cloud(size, rng, 2.2, (7, 1)) + 0.05 * np.sin(
        x * rng.uniform(0.3, 0.8) + rng.uniform(0, 6)
    )
    ring = np.hypot(y + bent, 0.16 + 0.1 * rng.random()) * rng.uniform(13, 20)
    late = (ring % 1.0) ** 3
    fibres = cloud(size, rng, 0.35, (45, 1))
    pores = np.clip(cloud(size, rng, 0.2, (16, 1)) - 1.7, 0, 1)
    patches = cloud(size, rng, 1.6, (4, 1))
    share = 0.30 + 0.36 * late + 0.075 * fibres + 0.07 * patches + rng.uniform(-0.11, 0.11)
    board = mixed(share, light, dark) * (1 - 0.42 * pores[..., None])
    gap = np.minimum(np.arange(height), np.arange(height)[::-1])[:, None, None]
    board *= 1 - 0.72 * np.exp(-((gap / 1.8) ** 2))
    return board * (1 + 0.02 * rng.standard_normal(3) * [1, 0.7, 0.5])
