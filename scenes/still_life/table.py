"""The table, the cloth on it, and postcards."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scenes.still_life import paint
from scenes.still_life.mesh import Array, box, joined, rectangle, surface, turned
from scenes.still_life.paint import Generator
from scenes.still_life.thing import Finish, Thing


def table(rng: Generator) -> Iterator[Thing]:
    """A table of boards."""
    top = paint.planks((4600, 2460), 8, rng, (212, 176, 130), (146, 102, 64))
    slab = box(2.5, 0.045, 1.36, 0.006)
    yield Thing("table", slab["top"].moved((0, -0.0225, -0.03)), Finish(top, 0.38, 0.45))
    rim = joined([slab[s].moved((0, -0.0225, -0.03)) for s in ("front", "right", "left", "back")])
    edge = paint.planks((2400, 64), 1, rng, (200, 160, 112), (138, 96, 60))
    yield Thing("table edge", rim, Finish(edge, 0.4, 0.4))
    legs = []
    for x in (-1.15, 1.15):
        for z in (-0.62, 0.56):
            legs += [m.moved((x, -0.4, z)) for m in box(0.07, 0.72, 0.07, 0.005).values()]
    yield Thing("legs", joined(legs), Finish(edge, 0.4, 0.4))


def cloth(rng: Generator) -> Iterator[Thing]:
    """A printed cloth with folds."""
    width, depth = 0.60, 0.42
    folds = [
        (rng.uniform(0, 2 * np.pi), rng.uniform(-0.9, 0.9), rng.uniform(0.03, 0.05), amount)
        for amount in (0.012, 0.010, 0.014, 0.009, 0.011)
    ]

    def shape(u: Array, v: Array) -> Array:
        x, z = (u - 0.5) * 2, (v - 0.5) * 2
        away = np.clip(np.hypot(x * 0.9, z * 0.8) - 0.42, 0, 1)
        height = 0.003 + 0 * u
        for angle, offset, sharp, amount in folds:
            across = x * np.cos(angle) + z * np.sin(angle) - offset * 0.6
            along = -x * np.sin(angle) + z * np.cos(angle)
            bent = across + 0.12 * np.sin(2.2 * along + angle)
            height = height + amount * away * np.exp(-((bent / (3 * sharp)) ** 2)) * 1.6
        pull = 0.012 * np.sin(5 * z + 1) * np.abs(x) ** 3, 0.012 * np.sin(4 * x) * np.abs(z) ** 3
        return np.stack([x * width / 2 + pull[0], height, z * depth / 2 + pull[1]], axis=-1)

    mesh = surface(shape, 181, 131, inside_out=True).moved((0.17, 0, 0.06), turned(yaw=17))
    inks = [(46, 72, 120), (84, 112, 150), (188, 92, 64)]
    printed = paint.print_cloth((1500, 1050), rng, (236, 228, 208), inks)
    printed[:38], printed[-38:], printed[:, :38], printed[:, -38:] = ((46, 72, 120),) * 4
    yield Thing("cloth", mesh, Finish(printed, 0.95, 0.05))


def postcards(rng: Generator) -> Iterator[Thing]:
    """Two on the table, one over the other."""
    cards = (
        ("lake card", paint.landscape((560, 400), rng), 0.148, 0.105, (0.60, 0.0015, 0.27), -24),
        ("flower card", paint.botanical((400, 560), rng, (214, 120, 60), "Calendula"),
        0.105, 0.148, (0.655, 0.003, 0.17), 31),
    )  # fmt: skip
    for name, picture, width, height, place, yaw in cards:
        card = rectangle(width, height).moved(place, turned(yaw, -90))
        yield Thing(name, card, Finish(picture, 0.5, 0.3))
