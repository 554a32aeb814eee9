"""Arrays in one file (safetensors), written a few rows at a time and mapped, not read.

The library of the format takes whole arrays in memory, which a long scene does not have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TYPES: dict[str, type[np.generic]] = {
    "F64": np.float64,
    "F32": np.float32,
    "I64": np.int64,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items()}
_LENGTH_BYTES = 8

Shapes = Mapping[str, tuple[Any, tuple[int, ...]]]
"""The type and shape of each array."""


def shape_of(array: NDArray[Any]) -> tuple[Any, tuple[int, ...]]:
    """An array's entry in `Shapes`."""
    return array.dtype, array.shape


class ArrayFile:
    """A new file with room for arrays of `shapes`, to be filled with `write` and closed; `metadata`
    is text that goes with them. What is never written is zero.

    Raises ValueError for other types than floats, int64, uint8 and bool, FileExistsError, OSError.
    """

    def __init__(
        self, path: Path, shapes: Shapes, metadata: Mapping[str, str] | None = None
    ) -> None:
        types = {name: np.dtype(kind) for name, (kind, _) in shapes.items()}
        unknown = sorted({str(kind) for kind in types.values() if kind not in _NAMES})
        if unknown:
            raise ValueError(
                f"a result holds floats, int64, uint8 and bool, not {', '.join(unknown)}"
            )
        header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
        self._places: dict[str, tuple[np.dtype[Any], tuple[int, ...], int]] = {}
        end = 0
        for name in sorted(types, key=lambda name: -types[name].itemsize):  # so all are aligned
            kind, shape = types[name], tuple(shapes[name][1])
            begin, end = end, end + kind.itemsize * int(np.prod(shape, dtype=np.int64))
            self._places[name] = (kind, shape, begin)
            header[name] = {
                "dtype": _NAMES[kind],
                "shape": list(shape),
                "data_offsets": [begin, end],
            }
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % _LENGTH_BYTES)
        self._file = path.open("xb")
        self._file.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        self._start = self._file.tell()
        self._file.truncate(self._start + end)

    def write(self, name: str, values: NDArray[Any], first: int = 0) -> None:
        """Fill an array, or its rows from `first` on, with `values` of its own type and shape."""
        kind, shape, begin = self._places[name]
        if (
            values.dtype != kind
            or values.shape[1:] != shape[1:]
            or (first + len(values) > shape[0])
        ):
            raise ValueError(
                f"{name} has {kind} {list(shape)}; rows {first} and on can't be {values.dtype} "
                f"{list(values.shape)}"
            )
        if values.size:
            row = kind.itemsize * int(np.prod(shape[1:], dtype=np.int64))
            self._file.seek(self._start + begin + first * row)
            self._file.write(np.ascontiguousarray(values).data)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def write_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write whole arrays into a new file. Raises what `ArrayFile` raises."""
    shapes = {name: shape_of(array) for name, array in arrays.items()}
    with ArrayFile(path, shapes, metadata) as file:
        for name, array in arrays.items():
            file.write(name, array)


def map_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays of a file, read-only, and the text beside them. Raises FileNotFoundError, and
    ValueError, TypeError or KeyError for a damaged file."""
    content = np.memmap(path, np.uint8, "r")
    start = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES].tobytes(), "little")
    header = json.loads(content[_LENGTH_BYTES:start].tobytes())
    metadata = header.pop("__metadata__", {})
    arrays: dict[str, NDArray[Any]] = {}
    for name, entry in header.items():
        first, last = (start + offset for offset in entry["data_offsets"])
        values: NDArray[Any] = content[first:last].view(_TYPES[entry["dtype"]])
        arrays[name] = values.reshape(entry["shape"])
    return arrays, metadata
