"""What stands against the wall."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scenes.still_life import paint
from scenes.still_life.books import book
from scenes.still_life.mesh import box, joined, revolved, tube, turned
from scenes.still_life.paint import Generator
from scenes.still_life.room import WALL
from scenes.still_life.thing import Finish, Thing


def back_row(rng: Generator) -> Iterator[Thing]:
    """What stands against the wall: a painted plate, a board, a candle, a row of books, a jar."""
    radius = 0.15
    plate = revolved(
        [(0, 0.010), (0.08, 0.010), (0.098, 0.014), (0.145, 0.026), (0.150, 0.027), (0.150, 0.024),
        (0.10, 0.008), (0.07, 0.0), (0, 0.0)],
        90, 129,
    )  # fmt: skip
    plate.uv[:] = 0.5 + plate.points[:, [0, 2]] / (2 * radius)
    inks = [(36, 70, 120), (196, 92, 58), (96, 128, 84)]
    glaze = paint.plate_glaze(1100, rng, (240, 234, 218), inks)
    yield Thing(
        "plate", plate.moved((0.80, 0.152, WALL + 0.055), turned(0, 77)), Finish(glaze, 0.14, 0.5)
    )
    board = box(0.18, 0.29, 0.018, 0.006)
    grain = paint.planks((900, 560), 5, rng, (226, 190, 142), (150, 96, 56))
    grain = np.ascontiguousarray(np.rot90(grain))
    slab = joined(list(board.values())).moved((-0.43, 0.143, WALL + 0.055), turned(0, -12, 2))
    yield Thing("cutting board", slab, Finish(grain, 0.5))
    stick = revolved(
        [
            (0, 0.20), (0.012, 0.201), (0.014, 0.196), (0.011, 0.18), (0.020, 0.176),
            (0.009, 0.168), (0.008, 0.12),
            (0.016, 0.108), (0.008, 0.096), (0.009, 0.04), (0.020, 0.022), (0.048, 0.012),
            (0.05, 0.004), (0.049, 0), (0, 0),
        ],
        200, 65,
    )  # fmt: skip
    brass = Finish(paint.flat((206, 164, 88), rng, grain=10), 0.28, 0.5, 1.0)
    at = (0.26, 0.0, -0.40)
    yield Thing("candlestick", stick.moved(at), brass)
    candle = revolved(
        [(0, 0.385), (0.006, 0.384), (0.0095, 0.380), (0.0105, 0.37), (0.011, 0.20), (0, 0.2)],
        80,
        49,
    )
    yield Thing("candle", candle.moved(at), Finish(paint.flat((238, 228, 204), rng), 0.5, 0.4))
    wick = tube(np.array([[0, 0.383, 0], [0.001, 0.390, 0], [0.003, 0.395, 0.001]]), 0.0008, 7)
    yield Thing("wick", wick.moved(at), Finish(paint.flat((30, 26, 24), rng)))
    x = -1.16
    for title, color, ink, thick, length in (
        ("Atlas", (46, 78, 74), (224, 196, 130), 0.042, 0.26),
        ("Rivers of the North", (150, 62, 50), (240, 214, 160), 0.034, 0.235),
        ("Baking", (222, 198, 150), (96, 56, 40), 0.028, 0.215), ("Winter", (62, 72, 110),
        (226, 220, 210), 0.038, 0.245),
        ("Moss & Fern", (86, 104, 66), (232, 220, 180), 0.026, 0.225), ("Letters", (196, 136, 62),
        (60, 36, 24), 0.036, 0.23),
        ("Clay", (128, 84, 66), (236, 214, 186), 0.03, 0.205), ("Birds", (58, 60, 64),
        (216, 176, 100), 0.044, 0.255),
    ):  # fmt: skip
        spine = paint.book_spine((1000, int(1000 * thick / length)), rng, color, ink, title)
        cover = paint.book_cover((360, 520), rng, color, ink, title, "", "sun")
        turn = turned(roll=-90)
        yield from book(
            rng, title, length, 0.16, thick, cover, spine, color, (x, length / 2, WALL + 0.11), turn
        )
        x += thick + 0.002
    jar = revolved(
        [
            (0, 0.21), (0.045, 0.212), (0.052, 0.208), (0.050, 0.19), (0.075, 0.165),
            (0.092, 0.11), (0.082, 0.04),
            (0.062, 0.004), (0.058, 0), (0, 0),
        ],
        120, 129,
    )  # fmt: skip
    glaze = paint.stoneware((1500, 900), rng, (214, 186, 140), (96, 62, 40), (150, 78, 52))
    yield Thing("jar", jar.moved((1.06, 0, -0.42)), Finish(glaze, 0.22, 0.5))
