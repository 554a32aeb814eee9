"""What a launch costs, counted: instructions of warps, and how well memory is used.

CUDA C++ Best Practices Guide, "Coalesced Access to Global Memory" (sectors of 32 bytes) and "Shared
Memory and Memory Banks" (32 banks of 4 bytes; lanes with 8 or 16 bytes go by halves or quarters of
a warp).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from tests.kernels.cuda.ptx.shared import WARP

_SECTOR, _WORD, _BANKS = 32, 4, 32


@dataclass
class Requests:
    """Requests of whole warps; `least` and `actual` count sectors of global memory or passes over
    the banks of shared memory."""

    count: int = 0
    least: int = 0
    actual: int = 0

    @property
    def factor(self) -> float:
        """How many times the least there are."""
        return self.actual / max(self.least, 1)


@dataclass
class Counts:
    """`instructions` counts every opcode once for a warp that runs it, whatever lanes it has."""

    instructions: Counter[str] = field(default_factory=Counter)
    requests: dict[str, Requests] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.instructions.values())

    def of(self, *names: str) -> int:
        """Instructions whose opcode starts with one of `names`."""
        return sum(n for opcode, n in self.instructions.items() if opcode.startswith(names))

    def global_access(
        self, kind: str, threads: np.ndarray, addresses: np.ndarray, size: int
    ) -> None:
        """An access of `size` bytes by each of `threads` at its address."""
        warps, lanes = np.unique(threads // WARP, return_counts=True)
        sectors = np.unique((threads // WARP).astype(np.int64) << 50 | addresses // _SECTOR).size
        self._add(kind, len(warps), int((-(-lanes * size // _SECTOR)).sum()), sectors)

    def shared_access(
        self, kind: str, threads: np.ndarray, addresses: np.ndarray, size: int
    ) -> None:
        """The same of shared memory."""
        share = WARP * _WORD // max(size, _WORD)  # lanes that go in one pass
        passes = threads // share
        words = addresses[:, None] // _WORD + np.arange(max(size // _WORD, 1))
        distinct = np.unique(passes[:, None] << 32 | words)
        _, depth = np.unique(distinct >> 32 << 8 | distinct % _BANKS, return_counts=True)
        owner = np.unique(distinct >> 32 << 8 | distinct % _BANKS) >> 8
        deepest = np.zeros(int(owner.max()) + 1, np.int64)
        np.maximum.at(deepest, owner, depth)
        self._add(kind, np.unique(threads // WARP).size, np.unique(passes).size, int(deepest.sum()))

    def _add(self, kind: str, count: int, least: int, actual: int) -> None:
        requests = self.requests.setdefault(kind, Requests())
        requests.count += count
        requests.least += least
        requests.actual += actual
