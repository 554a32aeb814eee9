"""Files that fill side by side, in every order that one can think of, and end as if they had come
one after another."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import permutations
from typing import BinaryIO, cast

import pytest
from starlette.datastructures import UploadFile

from service.errors import TooManyBytes
from service.inputs.remote.batch import AT_ONCE, Batch

MOST_BYTES = 100
Files = Callable[..., dict[int, UploadFile]]


@pytest.fixture
def files() -> Iterator[Files]:
    """Makes open files by their places, of the sizes that are given."""
    with ExitStack() as stack:

        def open(sizes: dict[int, int]) -> dict[int, UploadFile]:
            spools = [stack.enter_context(tempfile.SpooledTemporaryFile(2**20)) for _ in sizes]
            return {
                place: UploadFile(cast("BinaryIO", spool), size=size)
                for spool, (place, size) in zip(spools, sizes.items(), strict=True)
            }

        yield open


class Race:
    """Each file gets its bytes, or its error, when its turn comes."""

    def __init__(self, files: dict[int, UploadFile], outcomes: list[int | str]) -> None:
        self.files, self.outcomes = files, outcomes
        self.most_held = 0

    @property
    def open(self) -> list[int]:
        """Places whose files are not closed."""
        return [place for place, file in self.files.items() if not file.file.closed]

    async def run(self, order: tuple[int, ...]) -> None:
        """Raises what the batch raises."""
        self._batch = Batch(self.files, MOST_BYTES, spent=0)
        self._turns = [asyncio.Event() for _ in self.outcomes]
        filling = asyncio.create_task(self._batch.fill(self._work))
        for place in order:
            self._turns[place].set()
            for _ in range(10):  # until everybody has heard of it
                await asyncio.sleep(0)
            self.most_held = max(
                self.most_held, sum(self.files[other].size or 0 for other in self.open)
            )
        await filling

    async def _work(self, place: int) -> None:
        await self._turns[place].wait()
        outcome = self.outcomes[place]
        if isinstance(outcome, str):
            raise LookupError(outcome)
        await self.files[place].write(bytes(outcome))
        self._batch.check_room()


@pytest.mark.parametrize("order", [*permutations(range(4))])
@pytest.mark.parametrize(
    ("outcomes", "end", "kept"),
    [
        pytest.param([30, 30, 30, 10], "", [0, 1, 2, 3], id="all fit"),
        pytest.param([30, "first", 30, "second"], "first", [0], id="two errors"),
        pytest.param([30, 30, 30, 30], "more than 100 bytes", [0, 1, 2], id="one too many"),
        pytest.param(
            [60, "first", 60, 60], "first", [0], id="an error before there is no more room"
        ),
        pytest.param(
            [60, 60, "second", 1], "more than 100 bytes", [0], id="no more room before an error"
        ),
        pytest.param([30, 200, 1, 1], "more than 100 bytes", [0], id="one too large by itself"),
    ],
)
def test_in_whatever_order_files_fill_the_end_is_that_of_one_after_the_other(
    files: Files, outcomes: list[int | str], end: str, kept: list[int], order: tuple[int, ...]
) -> None:
    race = Race(files(dict.fromkeys(range(4), 0)), outcomes)
    if end:
        with pytest.raises((LookupError, TooManyBytes), match=end):
            asyncio.run(race.run(order))
    else:
        asyncio.run(race.run(order))
    assert race.open == kept
    assert race.most_held <= MOST_BYTES


def test_what_was_spent_and_what_fills_before_is_not_left(files: Files) -> None:
    async def left() -> list[int]:
        batch = Batch(files({2: 7, 5: 8, 6: 0}), MOST_BYTES, spent=60)
        return [batch.left(place) for place in batch.files]

    assert asyncio.run(left()) == [40, 33, 25]


def test_looking_for_room_looks_at_each_file_once(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    size = Batch._size
    monkeypatch.setattr(
        Batch, "_size", lambda batch, place: looked.append(place) or size(batch, place)
    )

    async def look() -> None:
        Batch(files(dict.fromkeys(range(50), 1)), MOST_BYTES, spent=0).check_room()

    asyncio.run(look())
    assert looked == [*range(50)]


def test_no_more_than_a_few_fill_at_a_time_and_the_first_ones_first(files: Files) -> None:
    begun: list[int] = []
    ended: list[int] = []

    async def work(place: int) -> None:
        begun.append(place)
        assert len(begun) - len(ended) <= AT_ONCE
        await asyncio.sleep(0)
        ended.append(place)

    async def fill() -> None:
        await Batch(files(dict.fromkeys(range(20), 0)), MOST_BYTES, spent=0).fill(work)

    asyncio.run(fill())
    assert begun == [*range(20)]
    assert len(ended) == 20
