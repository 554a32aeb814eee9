"""What stands on the table and around it.

The table's top is y = 0, the wall behind it z = WALL of `room`; x points right, z to whoever looks.
Metres.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from scenes.still_life.back_row import back_row
from scenes.still_life.books import books, open_book
from scenes.still_life.crockery import tea
from scenes.still_life.flowers import bouquet, vase
from scenes.still_life.fruit import bowl, fruit
from scenes.still_life.paint import Generator
from scenes.still_life.room import pictures, room
from scenes.still_life.table import cloth, postcards, table
from scenes.still_life.thing import Thing


def arrange(seed: int) -> list[Thing]:
    """Everything in the room. The same seed gives the same bits."""
    makers: Sequence[Callable[[Generator], Iterator[Thing]]] = (
        room, pictures, table, cloth, bowl, fruit, vase, bouquet, books, open_book,
        tea, back_row, postcards,
    )  # fmt: skip
    things: list[Thing] = []
    for index, maker in enumerate(makers):
        things += maker(np.random.default_rng([seed, 1 + index]))
    return things
