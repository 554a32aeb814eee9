"""The arrays of a result in one file (safetensors), written in one piece and mapped, not read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

FILE = "arrays.safetensors"

_TYPES: dict[str, type[np.generic]] = {
    "F64": np.float64,
    "F32": np.float32,
    "I64": np.int64,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_LENGTH_BYTES = 8


def write(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays of floats, int64, uint8 or bool into `folder`. Raises ValueError for others."""
    unknown = {str(array.dtype) for array in arrays.values() if array.dtype not in _TYPES.values()}
    if unknown:
        raise ValueError(
            f"a result holds floats, int64, uint8 and bool, not {', '.join(sorted(unknown))}"
        )
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / FILE)


def mapped(folder: Path) -> dict[str, NDArray[Any]]:
    """The arrays that `write` left in `folder`. Raises FileNotFoundError.

    Older versions left each in a file of its own.
    """
    if not (folder / FILE).exists():
        return {
            path.stem: np.load(path, mmap_mode="r", allow_pickle=False)
            for path in folder.glob("*.npy")
        }
    content = np.memmap(folder / FILE, np.uint8, "r")
    start = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES].tobytes(), "little")
    header = json.loads(content[_LENGTH_BYTES:start].tobytes())
    arrays: dict[str, NDArray[Any]] = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = (start + offset for offset in entry["data_offsets"])
            values: NDArray[Any] = content[first:last].view(_TYPES[entry["dtype"]])
            arrays[name] = values.reshape(entry["shape"])
    return arrays
