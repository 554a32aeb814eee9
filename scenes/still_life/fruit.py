"""A bowl with fruit in it and beside it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scenes.still_life import paint
from scenes.still_life.mesh import Array, Vector, joined, revolved, smooth_curve, tube, turned
from scenes.still_life.paint import Generator
from scenes.still_life.thing import Finish, Thing


def bowl(rng: Generator) -> Iterator[Thing]:
    """A painted bowl."""
    mesh = revolved(
        [
            (0, 0.020), (0.05, 0.023), (0.10, 0.042), (0.133, 0.076), (0.147, 0.101),
            (0.150, 0.103), (0.152, 0.100), (0.141, 0.073), (0.110, 0.034), (0.066, 0.012),
            (0.058, 0.008), (0.056, 0.0), (0, 0.0),
        ],
        rows=140, columns=161,
    )  # fmt: skip
    inks = [(38, 74, 128), (190, 84, 52), (92, 124, 72)]
    glaze = paint.bowl_glaze((2200, 1000), rng, (240, 234, 220), inks)
    yield Thing("bowl", mesh.moved((0.16, 0.006, 0.03)), Finish(glaze, 0.12, 0.55))


_APPLE = [
    (0, 0.060), (0.006, 0.062), (0.018, 0.071), (0.033, 0.066), (0.0415, 0.046), (0.039, 0.022),
    (0.028, 0.005), (0.014, 0.001), (0, 0.006),
]  # fmt: skip
_PEAR = [
    (0, 0.106), (0.007, 0.105), (0.013, 0.096), (0.018, 0.080), (0.028, 0.054), (0.0375, 0.030),
    (0.035, 0.011), (0.020, 0.001), (0, 0.004),
]  # fmt: skip
_LEMON = [
    (0, 0.047), (0.005, 0.045), (0.011, 0.037), (0.024, 0.023), (0.0285, 0), (0.024, -0.023),
    (0.012, -0.035), (0.006, -0.040), (0, -0.042),
]  # fmt: skip
_ORANGE = [
    (0, 0.0705), (0.004, 0.072), (0.020, 0.0695), (0.034, 0.056), (0.039, 0.036), (0.034, 0.017),
    (0.020, 0.003), (0, 0.0),
]  # fmt: skip


def fruit(rng: Generator) -> Iterator[Thing]:
    """Fruit in the bowl and on the table."""
    bowl = np.array([0.16, 0.006, 0.03])
    ring = 0.082
    kinds = ["apple", "orange", "apple", "pear", "orange", "apple"]
    count = 0
    for k, kind in enumerate(kinds[:5]):
        angle = 2 * np.pi * k / 5 + 0.5
        place = bowl + np.array([ring * np.sin(angle), 0.040, ring * np.cos(angle)])
        lean = turned(yaw=np.degrees(angle), pitch=rng.uniform(8, 26)) @ turned(rng.uniform(0, 360))
        yield from _one_fruit(rng, f"{kind} {count}", kind, place, lean)
        count += 1
    for kind, dx, dz, y, pitch, yaw in (
        ("apple", -0.035, 0.02, 0.098, 14, 40), ("orange", 0.045, 0.022, 0.094, 8, 100),
        ("pear", 0.012, -0.045, 0.096, -24, 150),
    ):  # fmt: skip
        yield from _one_fruit(
            rng, f"{kind} {count}", kind, bowl + np.array([dx, y, dz]), turned(yaw, pitch)
        )
        count += 1
    for kind, x, z, yaw, pitch in (
        ("lemon", 0.44, 0.20, 55, 90), ("lemon", 0.515, 0.155, 120, 90),
        ("apple", 0.365, 0.285, 20, 9), ("pear", -0.11, 0.10, 250, 8),
        ("apple", 0.62, -0.02, 60, -7),
    ):  # fmt: skip
        lift = 0.0285 if kind == "lemon" else 0.0
        yield from _one_fruit(
            rng, f"{kind} {count}", kind, np.array([x, lift, z]), turned(yaw, pitch)
        )
        count += 1
    yield from _grapes(rng)


def _one_fruit(rng: Generator, name: str, kind: str, place: Array, turn: Array) -> Iterator[Thing]:
    profile = {"apple": _APPLE, "pear": _PEAR, "lemon": _LEMON, "orange": _ORANGE}[kind]
    size = rng.uniform(0.93, 1.05)
    mesh = revolved([(r * size, y * size) for r, y in profile], rows=80, columns=97)
    # no fruit is quite round
    angle = np.arctan2(mesh.points[:, 0], mesh.points[:, 2])
    wobble = 1 + 0.02 * np.sin(2 * angle + rng.uniform(0, 6)) + 0.012 * np.sin(5 * angle)
    mesh.points[:, [0, 2]] *= wobble[:, None]
    if kind == "apple":
        kinds = [((226, 196, 98), (176, 40, 36), 0.62), ((196, 200, 96), (190, 66, 44), 0.26)]
        skin = paint.apple_skin((900, 600), rng, *kinds[int(rng.random() < 0.35)])
        finish = Finish(skin, 0.26, 0.45)
    elif kind == "orange":
        finish = Finish(paint.citrus_skin((900, 600), rng, (238, 138, 32), (206, 104, 16)), 0.38)
    elif kind == "lemon":
        finish = Finish(paint.citrus_skin((900, 600), rng, (240, 204, 60), (216, 172, 34)), 0.36)
    else:
        finish = Finish(paint.pear_skin((900, 600), rng), 0.42)
    shift: Vector = tuple(place)
    yield Thing(name, mesh.moved(shift, turn), finish)
    if kind in ("apple", "pear"):
        top = profile[0][1] * size
        lean = rng.uniform(-0.008, 0.008, 2)
        path = np.array(
            [
                [0, top - 0.004, 0],
                [0.3 * lean[0], top + 0.008, 0.3 * lean[1]],
                [lean[0], top + 0.02, lean[1]],
            ]
        )
        stem = tube(smooth_curve(path, 9), np.linspace(0.0014, 0.0022, 9))
        yield Thing(f"{name} stem", stem.moved(shift, turn), Finish(paint.flat((92, 66, 40), rng)))


def _grapes(rng: Generator) -> Iterator[Thing]:
    """A bunch on the table: balls pushed apart until none overlap, and down."""
    count, radius = 46, 0.0118
    t = rng.beta(1.2, 1.7, count)
    centres = np.stack(
        [0.13 * t, rng.uniform(0.01, 0.06, count), rng.normal(0, 0.03, count) * (1.1 - t)], axis=1
    )
    for _ in range(300):
        apart = centres[:, None] - centres[None]
        distance = np.linalg.norm(apart, axis=-1) + np.eye(count)
        push = np.clip(2 * radius * 0.96 - distance, 0, None) / distance
        centres += 0.35 * (apart * push[..., None]).sum(axis=1)
        centres[:, 1] -= 0.0006
        centres[:, [0, 2]] += 0.004 * ([0.05, 0.0] - centres[:, [0, 2]])
        centres[:, 1] = np.maximum(centres[:, 1], radius)
    ball = revolved(
        [(radius * np.sin(a), radius * np.cos(a)) for a in np.linspace(0, np.pi, 9)], 17, 25
    )
    balls = []
    for centre in centres:
        cell = rng.integers(4, size=2) / 4
        own = ball.with_uv((cell[0], cell[1]), (cell[0] + 0.25, cell[1] + 0.25))
        balls.append(own.moved(tuple(centre), turned(*rng.uniform(0, 360, 3))))
    bloom = paint.cloud((1024, 1024), rng, 0.9)
    skin = paint.texture(paint.mixed(0.36 + 0.17 * bloom, (58, 26, 54), (126, 112, 146)))
    turn = turned(yaw=38)
    place = (0.20, 0.0, 0.335)
    yield Thing("grapes", joined(balls).moved(place, turn), Finish(skin, 0.32, 0.4))
    twig = smooth_curve(np.array([[0.05, 0.04, 0], [0, 0.045, 0.005], [-0.05, 0.028, -0.01]]), 14)
    yield Thing(
        "grapes stem", tube(twig, 0.0022).moved(place, turn), Finish(paint.flat((112, 98, 52), rng))
    )
