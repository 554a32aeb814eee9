"""A vase with flowers, and a plant in a pot."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scenes.still_life import paint
from scenes.still_life.mesh import (
    Array,
    Mesh,
    Vector,
    blade,
    joined,
    revolved,
    smooth_curve,
    tube,
    turned,
)
from scenes.still_life.paint import Generator
from scenes.still_life.thing import Finish, Thing

_VASE = (-0.17, 0.0, -0.17)


def vase(rng: Generator) -> Iterator[Thing]:
    """A painted vase."""
    outside = revolved(
        [
            (0.047, 0.268), (0.048, 0.264), (0.038, 0.240), (0.041, 0.214), (0.072, 0.178),
            (0.094, 0.130), (0.088, 0.075), (0.062, 0.024), (0.056, 0.008), (0.058, 0.0),
        ],
        rows=140, columns=161,
    )  # fmt: skip
    inside = revolved(
        [(0, 0.12), (0.032, 0.16), (0.034, 0.24), (0.043, 0.266), (0.047, 0.268)], 40, 81
    )
    glaze = paint.vase_glaze((2400, 1500), rng, (238, 238, 232), (30, 58, 126))
    yield Thing("vase", outside.moved(_VASE), Finish(glaze, 0.1, 0.55))
    plain = Finish(paint.flat((226, 226, 220), rng), 0.15, 0.5)
    yield Thing("vase inside", inside.moved(_VASE), plain)


def _upright(direction: Array, twist: float) -> Array:
    """A rotation that takes y to `direction`, after a turn about y by `twist` degrees."""
    up = direction / np.linalg.norm(direction)
    side = np.cross(up, [0.31, 0.2, 0.93])
    side /= np.linalg.norm(side)
    basis: Array = np.stack([side, up, np.cross(side, up)], axis=1)
    return basis @ turned(twist)


def dahlia(rng: Generator, radius: float, layers: int = 6) -> Mesh:
    """Rings of petals, steeper and shorter to the middle; looks up, its middle the origin."""
    petals = []
    for layer in range(layers):
        share = layer / (layers - 1)
        count = round(15 - 7 * share)
        for k in range(count):
            length = radius * (1.0 - 0.62 * share) * rng.uniform(0.94, 1.05)
            leaf = blade(length, length * (0.38 + 0.08 * share), rng.uniform(-0.5, -0.2), 0.45, 1.5)
            yaw = 360 * (k + 0.5 * (layer % 2)) / count + rng.uniform(-3, 3)
            turn = turned(yaw, -8 - 66 * share + rng.uniform(-4, 4))
            petals.append(leaf.moved((0, 0.004 + 0.18 * radius * share, 0), turn))
    return joined(petals)


def _daisy(rng: Generator, radius: float) -> tuple[Mesh, Mesh]:
    """Petals and heart."""
    petals = []
    for k in range(17):
        leaf = blade(
            radius * rng.uniform(0.92, 1.06), radius * 0.32, rng.uniform(0.0, 0.5), 0.2, 1.7
        )
        petals.append(
            leaf.moved((0, 0.001 * (k % 2), 0), turned(360 * k / 17, rng.uniform(-16, -4)))
        )
    heart = revolved(
        [(0, 0.008), (0.15 * radius, 0.0075), (0.28 * radius, 0.003), (0.30 * radius, -0.002)],
        20,
        33,
    )
    return joined(petals), heart


def bouquet(rng: Generator) -> Iterator[Thing]:
    """Flowers and leaves in the vase."""
    mouth = np.array(_VASE) + np.array([0, 0.262, 0])
    blooms = (  # heading (degrees about y), lean, length, kind, radius
        (20, 0.20, 0.22, "coral", 0.062), (-60, 0.55, 0.20, "cream", 0.056),
        (80, 0.62, 0.19, "wine", 0.052), (150, 0.35, 0.27, "cream", 0.054),
        (-120, 0.42, 0.29, "coral", 0.056), (-15, 0.80, 0.15, "wine", 0.050),
        (45, 0.85, 0.17, "daisy", 0.040), (-95, 0.92, 0.19, "daisy", 0.040),
        (-35, 0.34, 0.29, "daisy", 0.042), (105, 0.28, 0.31, "daisy", 0.040),
        (190, 0.70, 0.22, "wine", 0.050), (0, 0.45, 0.17, "daisy", 0.038),
        (-150, 0.85, 0.18, "coral", 0.05), (60, 0.33, 0.25, "gold", 0.044),
        (-75, 0.25, 0.24, "gold", 0.042),
    )  # fmt: skip
    colors = {
        "coral": ((226, 112, 88), (176, 52, 50)), "cream": ((240, 222, 190), (226, 176, 120)),
        "wine": ((136, 34, 58), (74, 14, 34)), "daisy": ((240, 238, 230), (226, 220, 180)),
        "gold": ((232, 172, 60), (196, 110, 36)),
    }  # fmt: skip
    heads: dict[str, list[Mesh]] = {name: [] for name in colors}
    hearts, stems, leaves = [], [], []
    leaf_sides = 4

    def leafy(path: Array, start: int, size: float) -> None:
        for k in range(start, len(path) - 1, 2):
            along = path[k + 1] - path[k]
            for _ in range(2):
                outward = _upright(along, rng.uniform(0, 360))
                leaf = blade(size * rng.uniform(0.7, 1.15), size * 0.44, rng.uniform(0.2, 0.9), 0.3)
                cell = rng.integers(leaf_sides, size=2) / leaf_sides
                leaf = leaf.with_uv(tuple(cell), tuple(cell + 1 / leaf_sides))
                turn = outward @ turned(0, rng.uniform(-60, -15))
                leaves.append(leaf.moved(tuple(path[k]), turn))

    for heading, lean, length, kind, radius in blooms:
        a = np.radians(heading)
        out = np.array([np.sin(a), 0, np.cos(a)])
        tip_way = np.array([0, np.cos(lean), 0]) + np.sin(lean) * out
        knots = np.stack(
            [
                mouth - [0, 0.10, 0],
                mouth + 0.015 * out,
                mouth + 0.55 * length * (tip_way + np.array([0, 0.12, 0])),
                mouth + length * tip_way,
            ]
        )
        path = smooth_curve(knots, 16)
        stems.append(tube(path, 0.0026))
        leafy(path, 7, 0.052)
        facing = tip_way + 0.55 * out + [0, -0.1, 0.25]
        turn = _upright(facing, rng.uniform(0, 360))
        if kind == "daisy":
            petals, heart = _daisy(rng, radius)
            hearts.append(heart.moved(tuple(path[-1]), turn))
        else:
            petals = dahlia(rng, radius)
        heads[kind].append(petals.moved(tuple(path[-1]), turn))
    for heading, lean, length in (
        (-80, 0.75, 0.30),
        (60, 0.60, 0.34),
        (120, 0.9, 0.28),
        (-150, 0.5, 0.38),
        (10, 0.95, 0.22),
        (-40, 1.05, 0.24),
        (170, 0.15, 0.36),
    ):
        a = np.radians(heading)
        out = np.array([np.sin(a), 0, np.cos(a)])
        end = mouth + length * (np.sin(lean) * out + [0, np.cos(lean), 0]) - [0, 0.05 * lean, 0]
        middle = mouth + 0.55 * length * (np.sin(lean * 0.7) * out + [0, np.cos(lean * 0.7), 0])
        path = smooth_curve(np.stack([mouth - [0, 0.1, 0], mouth + 0.02 * out, middle, end]), 26)
        stems.append(tube(path, np.linspace(0.003, 0.0014, 26)))
        leafy(path, 9, 0.046)
    for name, meshes in heads.items():
        base, heart_color = colors[name]
        skin = paint.petal((256, 256), rng, base, heart_color)
        yield Thing(f"{name} petals", joined(meshes), Finish(skin, 0.75, 0.2))
    seeds = paint.flat((208, 148, 34), rng, grain=34)
    yield Thing("daisy hearts", joined(hearts), Finish(seeds, 0.9, 0.1))
    yield Thing("stems", joined(stems), Finish(paint.flat((92, 116, 62), rng), 0.6))
    greens = [(74, 108, 62), (96, 128, 82), (112, 138, 104), (62, 96, 66)]
    yield Thing("leaves", joined(leaves), Finish(paint.leaf_sheet((1024, 1024), rng, greens), 0.5))
    fallen = [
        blade(0.045, 0.02, 0.5, 0.3, 1.5).moved((x, 0.004, z), turned(yaw, 6))
        for x, z, yaw in ((-0.30, 0.06, 20), (-0.05, -0.02, 130), (-0.34, -0.30, 250))
    ]
    yield Thing(
        "fallen petals",
        joined(fallen),
        Finish(paint.petal((256, 256), rng, *colors["coral"]), 0.75, 0.2),
    )


def succulent(rng: Generator, place: Vector) -> Iterator[Thing]:
    """A plant in a clay pot that stands at `place`."""
    pot = revolved(
        [
            (0, 0.06), (0.036, 0.061), (0.037, 0.066), (0.042, 0.067), (0.044, 0.064),
            (0.043, 0.053),
            (0.038, 0.051), (0.034, 0.02), (0.030, 0.002), (0.028, 0), (0, 0),
        ],
        rows=120, columns=97,
    )  # fmt: skip
    yield Thing("pot", pot.moved(place), Finish(paint.terracotta((900, 400), rng), 0.9, 0.1))
    x, y, z = place
    rosette = dahlia(rng, 0.058, 7).moved((x, y + 0.064, z), turned(0, 8))
    skin = paint.petal((256, 256), rng, (112, 150, 124), (158, 186, 140))
    skin[-46:] = paint.texture(
        paint.mixed(
            np.linspace(0, 0.8, 46)[:, None] + np.zeros((1, 256)), (112, 150, 124), (178, 96, 96)
        )
    )
    yield Thing("succulent", rosette, Finish(skin, 0.45, 0.35))
