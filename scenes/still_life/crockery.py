"""A pot of tea and a cup."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scenes.still_life import paint
from scenes.still_life.mesh import Mesh, joined, revolved, smooth_curve, tube, turned
from scenes.still_life.paint import Generator
from scenes.still_life.thing import Finish, Thing


def _disc(radius: float, height: float) -> Mesh:
    return revolved([(0, height), (radius, height)], 3, 65, smooth=False)


def tea(rng: Generator) -> Iterator[Thing]:
    """A teapot, and a cup on its saucer."""
    glaze = paint.stoneware((1400, 1000), rng, (206, 190, 162), (78, 54, 38), (84, 122, 122))
    finish = Finish(glaze, 0.2, 0.5)
    place, turn = (-0.50, 0.0, -0.05), turned(yaw=-32)
    body = revolved(
        [
            (0, 0.152), (0.011, 0.150), (0.013, 0.141), (0.007, 0.133), (0.026, 0.128),
            (0.049, 0.116),
            (0.051, 0.113), (0.055, 0.112), (0.082, 0.090), (0.094, 0.058), (0.083, 0.022),
            (0.060, 0.005), (0.056, 0.0), (0, 0.0),
        ],
        rows=160, columns=129,
    )  # fmt: skip
    spout = tube(
        smooth_curve(np.array([[0.07, 0.035, 0], [0.115, 0.052, 0], [0.132, 0.092, 0],
        [0.158, 0.116, 0]]), 40),
        np.interp(np.linspace(0, 1, 40), [0, 0.5, 1], [0.026, 0.014, 0.010]), 33,
    )  # fmt: skip
    handle = tube(
        smooth_curve(np.array([[-0.070, 0.098, 0], [-0.115, 0.112, 0], [-0.142, 0.075, 0],
        [-0.118, 0.036, 0], [-0.082, 0.030, 0]]), 60),
        0.0075, 25,
    )  # fmt: skip
    pot = joined(
        [body, spout.with_uv((0.1, 0.3), (0.3, 0.7)), handle.with_uv((0.6, 0.3), (0.7, 0.45))]
    )
    yield Thing("teapot", pot.moved(place, turn), finish)
    cup_at, cup_turn = (-0.47, 0.0, 0.135), turned(yaw=-140)
    saucer = revolved(
        [(0, 0.008), (0.03, 0.008), (0.045, 0.010), (0.070, 0.019), (0.072, 0.018), (0.048, 0.005),
        (0.03, 0.0), (0, 0.0)],
        60, 97,
    )  # fmt: skip
    cup = revolved(
        [
            (0, 0.014), (0.020, 0.016), (0.034, 0.032), (0.038, 0.062), (0.0395, 0.0645),
            (0.041, 0.062),
            (0.038, 0.032), (0.024, 0.010), (0.021, 0.004), (0.0215, 0.0), (0, 0.0),
        ],
        100, 97,
    ).moved((0, 0.008, 0))  # fmt: skip
    ear = tube(
        smooth_curve(np.array([[0.036, 0.062, 0], [0.056, 0.063, 0], [0.058, 0.040, 0],
        [0.033, 0.030, 0]]), 40),
        0.004, 17,
    ).with_uv((0.2, 0.3), (0.3, 0.45))  # fmt: skip
    yield Thing(
        "saucer",
        saucer.moved(cup_at),
        Finish(paint.stoneware((900, 500), rng, (206, 190, 162), (78, 54, 38), None), 0.2, 0.5),
    )
    glaze = paint.stoneware((1000, 700), rng, (206, 190, 162), (78, 54, 38), (84, 122, 122))
    yield Thing("cup", joined([cup, ear]).moved(cup_at, cup_turn), Finish(glaze, 0.2, 0.5))
    tea = _disc(0.0365, 0.058).moved(cup_at)
    yield Thing("tea", tea, Finish(paint.flat((120, 58, 20), rng, grain=2), 0.05, 0.5))
