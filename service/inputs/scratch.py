"""What lies on disk while a request is prepared, since it may be more than memory holds."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


class Scratch:
    """An unnamed file that is gone once it is closed and nothing maps it. Every method may raise
    OSError."""

    def __init__(self) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile(prefix="pictures-")  # noqa: SIM115 - see close

    def add(self, content: Any) -> slice:
        """Put bytes away; returns where they lie in what `mapped` gives."""
        begin = self._file.seek(0, 2)
        return slice(begin, begin + self._file.write(content))

    def mapped(self) -> NDArray[np.uint8]:
        """Everything that was put away, read-only."""
        if not self._file.seek(0, 2):
            return np.empty(0, np.uint8)
        self._file.flush()
        return np.memmap(self._file, np.uint8, "r")

    def keep(self, array: NDArray[Any]) -> Callable[[], NDArray[Any]]:
        """Put an array away; returns what reads it again."""
        kind, shape = array.dtype, array.shape
        place = self.add(np.ascontiguousarray(array).data)

        def read() -> NDArray[Any]:
            self._file.seek(place.start)
            return np.frombuffer(self._file.read(place.stop - place.start), kind).reshape(shape)

        return read

    def close(self) -> None:
        """Release what it takes on disk."""
        self._file.close()


def stacked(arrays: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """Arrays of one type and shape as one, read-only, that is mapped from a file without a name; it
    is gone with the array. Raises OSError, and ValueError for no arrays."""
    with tempfile.TemporaryFile(prefix="pictures-") as file:
        count = 0
        for array in arrays:
            file.write(np.ascontiguousarray(array).data)
            kind, shape, count = array.dtype, array.shape, count + 1
        if not count:
            raise ValueError("there are no arrays to stack")
        file.flush()
        return np.memmap(file, kind, "r", shape=(count, *shape))
