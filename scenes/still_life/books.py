"""Books: closed ones in a stack, and an open one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scenes.still_life import paint
from scenes.still_life.flowers import succulent
from scenes.still_life.mesh import Array, Vector, box, joined, surface, turned
from scenes.still_life.paint import Generator, Rgb, Texture
from scenes.still_life.thing import Finish, Thing


def book(
    rng: Generator, name: str, length: float, width: float, thick: float, cover: Texture,
    spine: Texture,
    color: Rgb, place: Vector, turn: Array,
) -> Iterator[Thing]:  # fmt: skip
    """A closed book that lies on its back: its spine, along x, in front; its lower side y = 0."""
    board = 0.003
    cloth = Finish(paint.linen((500, 400), rng, color, []), 0.8, 0.2)
    lids = []
    for y in (board / 2, thick - board / 2):
        lids.append({s: m.moved((0, y, 0)) for s, m in box(length, board, width, 0.001).items()})
    back = {
        s: m.moved((0, thick / 2, width / 2)) for s, m in box(length, thick, 0.006, 0.0025).items()
    }
    face = Finish(np.ascontiguousarray(np.rot90(cover)), 0.7, 0.25)
    yield Thing(f"{name} face", lids[1]["top"].moved(place, turn), face)
    yield Thing(f"{name} spine", back["front"].moved(place, turn), Finish(spine, 0.7, 0.25))
    rest = [m for s, m in lids[1].items() if s != "top"] + list(lids[0].values())
    rest += [m for s, m in back.items() if s != "front"]
    yield Thing(f"{name} boards", joined(rest).moved(place, turn), cloth)
    block = box(length - 0.008, thick - 2 * board, width - 0.006, 0.001)
    pages = joined(list(block.values())).moved((0, thick / 2, 0))
    yield Thing(
        f"{name} pages",
        pages.moved(place, turn),
        Finish(paint.page_edges((600, 120), rng), 0.9, 0.1),
    )


def books(rng: Generator) -> Iterator[Thing]:
    """A stack of books, with a plant on top."""
    gold = (222, 186, 112)
    stack = (
        ("Tides", "M. Holm", "waves", (36, 66, 84), gold, 0.265, 0.19, 0.046, -9),
        (
            "A Year of Herbs",
            "R. Lind",
            "sprig",
            (96, 110, 76),
            (236, 226, 196),
            0.235,
            0.168,
            0.034,
            7,
        ),
        ("Light", "A. Sol", "sun", (170, 72, 48), (240, 206, 140), 0.215, 0.15, 0.028, -15),
    )
    y = 0.0
    for title, author, motif, color, ink, length, width, thick, yaw in stack:
        cover = paint.book_cover(
            (700, int(700 * length / width)), rng, color, ink, title, author, motif
        )
        spine = paint.book_spine((1000, int(1000 * thick / length)), rng, color, ink, title)
        yield from book(
            rng, title, length, width, thick, cover, spine, color, (0.50, y, -0.24), turned(yaw)
        )
        y += thick
    yield from succulent(rng, (0.49, y, -0.25))


_WORDS = [
    "The window faces east and so the room is bright before anyone is awake. Light falls on",
    "the table first, then on the wall, and by nine it has found the fruit. I have drawn the",
    "same jug for forty days. It is never the same jug. In rain it is grey and keeps to",
    "itself; when the sun comes it turns blue, throws a shadow twice its length and seems",
    "about to speak. What we see of a thing is mostly what shines on it. Walk round it",
    "slowly, look again from each side, and the shape comes out of the pictures by itself, as",
    "a coast comes out of fog.",
]


def open_book(rng: Generator) -> Iterator[Thing]:
    """An open book with printed pages."""
    width, length, thick = 0.150, 0.212, 0.020
    place, turn = (-0.27, 0.004, 0.27), turned(yaw=14)

    def rise(x: Array) -> Array:
        return thick * (1 - np.exp(-x / 0.011)) * (1 - 0.28 * (x / width) ** 1.5) + 0.001

    for side, heading, plate in ((-1, "On Looking", False), (1, "The Garden", True)):

        def sheet(u: Array, v: Array, side: int = side) -> Array:
            x = u * width if side > 0 else (1 - u) * width
            return np.stack([side * x, rise(x), (v - 0.5) * length], axis=-1)

        page = paint.printed_page((900, int(900 * length / width)), rng, heading, _WORDS, plate)
        mesh = surface(sheet, 61, 9, inside_out=True)
        yield Thing(f"page {heading}", mesh.moved(place, turn), Finish(page, 0.9, 0.1))
        walls = []
        for end in (-0.5, 0.5):

            def wall(u: Array, v: Array, side: int = side, end: float = end) -> Array:
                return np.stack(
                    [side * u * width, rise(u * width) * (1 - v), end * length + 0 * u], axis=-1
                )

            walls.append(surface(wall, 61, 3, inside_out=(end > 0) == (side > 0)))

        def fore(u: Array, v: Array, side: int = side) -> Array:
            edge = rise(np.full_like(u, width))
            return np.stack(
                [side * (width + 0.004 * v), edge * (1 - v), (u - 0.5) * length], axis=-1
            )

        walls.append(surface(fore, 9, 3, inside_out=side < 0))
        edges = Finish(paint.page_edges((600, 120), rng), 0.9, 0.1)
        yield Thing(f"page edges {side}", joined(walls).moved(place, turn), edges)
    boards = box(2 * width + 0.022, 0.003, length + 0.012, 0.001)
    cloth = Finish(paint.linen((600, 450), rng, (128, 44, 46), []), 0.8, 0.2)
    yield Thing(
        "open boards",
        joined(list(boards.values())).moved((place[0], 0.0025, place[2]), turn),
        cloth,
    )
