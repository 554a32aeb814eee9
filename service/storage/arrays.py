"""The arrays of a result in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.result.array_file import ArrayFile, Shapes, map_arrays, write_arrays

FILE = "arrays.safetensors"


def write(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays of floats, int64, uint8 or bool into `folder`. Raises ValueError for others."""
    write_arrays(folder / FILE, arrays)


def created(folder: Path, shapes: Shapes) -> ArrayFile:
    """Room for such arrays in `folder`, to be filled bit by bit."""
    return ArrayFile(folder / FILE, shapes)


def mapped(folder: Path) -> dict[str, NDArray[Any]]:
    """The arrays that `write` left in `folder`. Raises FileNotFoundError.

    Older versions left each in a file of its own.
    """
    if not (folder / FILE).exists():
        return {
            path.stem: np.load(path, mmap_mode="r", allow_pickle=False)
            for path in folder.glob("*.npy")
        }
    return map_arrays(folder / FILE)[0]
