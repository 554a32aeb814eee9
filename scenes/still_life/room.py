"""The room: walls, floor, and the pictures that hang in it. Axes as in `arrangement`."""

from __future__ import annotations

from collections.abc import Iterator

from scenes.still_life import paint
from scenes.still_life.mesh import box, joined, rectangle, turned
from scenes.still_life.paint import Generator, Rgb, Texture
from scenes.still_life.thing import Finish, Thing

WALL = -0.74
FLOOR = -0.76


def room(rng: Generator) -> Iterator[Thing]:
    """Walls, wainscot and floor."""
    paper = paint.wallpaper(
        (6200, 1900), rng, (52, 84, 88), [(98, 132, 116), (120, 142, 108), (84, 116, 118)],
        [(226, 196, 150), (214, 150, 116), (228, 214, 190)],
    )  # fmt: skip
    yield Thing("wall", rectangle(6.2, 1.9).moved((0, 0.98, WALL)), Finish(paper, 0.9, 0.1))
    cream = (222, 212, 192)
    boards = paint.planks((3100, 380), 1, rng, (226, 217, 198), (208, 196, 172))
    yield Thing("wainscot", rectangle(6.2, 0.76).moved((0, -0.38, WALL)), Finish(boards, 0.5))
    rail = box(6.2, 0.05, 0.04, 0.008)
    for side in ("front", "top", "bottom"):
        mesh = rail[side].moved((0, 0.01, WALL + 0.02))
        yield Thing(f"rail {side}", mesh, Finish(paint.flat(cream, rng), 0.45))
    floor = paint.planks((3600, 2400), 14, rng, (150, 104, 66), (84, 52, 32))
    ground = rectangle(6.2, 4.2).moved((0, FLOOR, 1.3), turned(pitch=-90))
    yield Thing("floor", ground, Finish(floor, 0.45, 0.4))
    for sign in (-1, 1):
        wall = rectangle(3.4, 2.7).moved((sign * 2.9, 0.58, 0.96), turned(yaw=-90 * sign))
        lime = paint.plaster((1700, 1350), rng, (226, 212, 190))
        yield Thing(f"side wall {sign}", wall, Finish(lime, 0.9, 0.1))


def pictures(rng: Generator) -> Iterator[Thing]:
    """What hangs on the wall."""
    walnut, gold, black = (92, 60, 38), (176, 136, 72), (48, 44, 42)
    lake = paint.landscape((1300, 950), rng)
    yield from _framed(rng, "lake", lake, 0.62, 0.455, (0.19, 0.70), gold, 0.0)
    fern = paint.botanical((620, 840), rng, (196, 92, 74), "Cosmos")
    yield from _framed(rng, "cosmos", fern, 0.24, 0.325, (-0.62, 0.58), walnut, 0.03)
    herb = paint.botanical((620, 840), rng, (96, 92, 168), "Salvia")
    yield from _framed(rng, "salvia", herb, 0.24, 0.325, (-1.04, 0.60), walnut, 0.03)
    inks = [(196, 90, 62), (226, 170, 84), (58, 92, 100), (32, 56, 70), (214, 196, 160)]
    arches = paint.abstract((760, 1000), rng, inks)
    yield from _framed(rng, "arches", arches, 0.34, 0.447, (0.94, 0.66), black, 0.035)
    shore = paint.landscape((1100, 800), rng)
    yield from _framed(rng, "shore", shore, 0.50, 0.364, (1.60, 0.62), walnut, 0.04)
    shapes = paint.abstract((1000, 760), rng, inks)
    yield from _framed(rng, "shapes", shapes, 0.46, 0.35, (-1.62, 0.62), black, 0.035)


def _framed(
    rng: Generator, name: str, picture: Texture, width: float, height: float,
    place: tuple[float, float], color: Rgb, mat: float,
) -> Iterator[Thing]:  # fmt: skip
    """A picture of this size in a wooden frame; `mat` is the width of the paper round it."""
    x, y = place
    z = WALL + 0.012
    yield Thing(name, rectangle(width, height).moved((x, y, z + 0.002)), Finish(picture, 0.7, 0.2))
    outer_w, outer_h, bar = width + 2 * mat, height + 2 * mat, 0.03
    if mat:
        paper = Finish(paint.flat((236, 230, 216), rng), 0.9, 0.1)
        yield Thing(f"{name} mat", rectangle(outer_w, outer_h).moved((x, y, z)), paper)
    red, green, blue = (int(c * 0.62) for c in color)
    wood = Finish(paint.planks((900, 64), 1, rng, color, (red, green, blue)), 0.35, 0.5)
    sides = []
    for sign in (-1, 1):
        flat = box(outer_w + 2 * bar, bar, 0.03, 0.006)
        upright = box(outer_h, bar, 0.03, 0.006)
        sides += [m.moved((x, y + sign * (outer_h + bar) / 2, WALL + 0.016)) for m in flat.values()]
        sides += [
            m.moved((x + sign * (outer_w + bar) / 2, y, WALL + 0.015), turned(roll=90))
            for m in upright.values()
        ]
    yield Thing(f"{name} frame", joined(sides), wood)
