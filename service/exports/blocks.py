"""Work on large maps a few rows at a time, so that what lies between input and output stays
small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS = 64


def by_rows(make: Callable[[NDArray[Any]], NDArray[Any]], values: NDArray[Any]) -> NDArray[Any]:
    """What `make` gives for every few rows of `values` [h, ...], as one array of h rows."""
    first = make(values[:_ROWS])
    whole = np.empty((len(values), *first.shape[1:]), first.dtype)
    whole[:_ROWS] = first
    for start in range(_ROWS, len(values), _ROWS):
        whole[start : start + _ROWS] = make(values[start : start + _ROWS])
    return whole
