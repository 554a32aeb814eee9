"""How many files are made at once, and how much memory that may take."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from service.errors import ExportsBusy
from service.exports.export import Export
from service.exports.options import ExportOptions
from service.exports.points import MOST_POINTS
from service.result.document import ReconstructionDocument, Size

_WAITING = 16  # requests; each of them holds one of the web server's threads
_PATIENCE_SECONDS = 20.0
_MAP_BYTES = 20  # a pixel of a map while its file is made
_SCENE_BYTES = 120  # a pixel of all pictures together while a file of the whole scene is made, but
# never more than for the most points that a cloud has


class ExportBudget:
    """Files are made while they take at most `bytes` together, and one in any case.

    The next ones wait for a moment, but not too many of them. A file that is made for another one,
    on the same thread, belongs to it.
    """

    def __init__(
        self, bytes: int, waiting: int = _WAITING, patience: float = _PATIENCE_SECONDS
    ) -> None:
        self._bytes = bytes
        self._most_waiting = waiting
        self._patience = patience
        self._taken = 0
        self._made_now = 0
        self._waiting = 0
        self._free = threading.Condition()
        self._mine = threading.local()

    @contextmanager
    def taken(self, bytes: int, insist: bool = False) -> Iterator[None]:
        """Hold `bytes` of the budget. Raises ExportsBusy, unless somebody `insists` and waits as
        long as it takes."""
        if getattr(self._mine, "held", False):
            yield
            return
        self._take(bytes, insist)
        self._mine.held = True
        try:
            yield
        finally:
            self._mine.held = False
            with self._free:
                self._taken -= bytes
                self._made_now -= 1
                self._free.notify_all()

    def _take(self, bytes: int, insist: bool) -> None:
        def fits() -> bool:
            return not self._made_now or self._taken + bytes <= self._bytes

        with self._free:
            if not fits():
                if self._waiting >= self._most_waiting and not insist:
                    raise _busy(self._made_now, self._waiting)
                self._waiting += 1
                try:
                    if not self._free.wait_for(fits, None if insist else self._patience):
                        raise _busy(self._made_now, self._waiting)
                finally:
                    self._waiting -= 1
            self._taken += bytes
            self._made_now += 1


def predicted_bytes(
    export: Export[Any], options: ExportOptions, document: ReconstructionDocument, index: int
) -> int:
    """What making a file takes beside the stored arrays, which are mapped: an upper bound."""
    pictures = document.pictures
    if export.per_picture:
        picture = pictures[index]
        original = getattr(options, "grid", export.grid) == "original"
        pixels = _pixels(picture.original_size if original else picture.network_size)
        longest = getattr(options, "max_side", None)
        return _MAP_BYTES * min(pixels, longest**2 if longest else pixels)
    largest = max(_pixels(picture.original_size) for picture in pictures)
    together = sum(
        _pixels(picture.network_size if picture.dense is None else picture.dense.size)
        for picture in pictures
    )
    return export.own_bytes + max(_SCENE_BYTES * min(together, MOST_POINTS), _MAP_BYTES * largest)


def _busy(made: int, waiting: int) -> ExportsBusy:
    return ExportsBusy(f"{made} files are being made and {waiting} requests wait for others.")


def _pixels(size: Size) -> int:
    return size.width * size.height
