"""How much memory a pass takes and how much there is, on a GPU or in this process. Bytes
throughout."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MACHINE = Path("/proc/meminfo")
_CGROUP_LIMIT, _CGROUP_USED = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory.current"),
)
_SHARE = 0.8  # of what is free: the rest is for decoding, exports and the allocator


class PeakMemory:
    """Measures peaks above the least that the device or process has held since this object was
    made."""

    def __init__(self, device: str) -> None:
        self._cuda = torch.device(device).type == "cuda"
        self._device = device
        self._base = torch.cuda.memory_allocated(device) if self._cuda else _field(_STATUS, "VmRSS")
        self.bytes = 0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Within the context the peak is watched; afterwards it is in `bytes`, 0 where it can't be
        known."""
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            # what the allocator keeps for later would hide what the pass needs
            _return_unused_memory()
            self._base = min(self._base, _field(_STATUS, "VmRSS"))
            with suppress(OSError):
                _CLEAR.write_text("5")  # starts the high-water mark of resident memory afresh
        yield
        peak = (
            torch.cuda.max_memory_allocated(self._device)
            if self._cuda
            else _field(_STATUS, "VmHWM")
        )
        self.bytes = max(peak - self._base, 0)


def free_budget(device: str) -> int | None:
    """What a pass may take beyond the loaded model: most of what is free now; None where that can't
    be known."""
    if torch.device(device).type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(_SHARE * free)
    free = _field(_MACHINE, "MemAvailable")
    with suppress(OSError, ValueError):  # no limit, or no such file
        free = min(free, int(_CGROUP_LIMIT.read_text()) - int(_CGROUP_USED.read_text()))
    return int(_SHARE * free) or None


def _return_unused_memory() -> None:
    """Gives freed memory back to the system, where the C library can (glibc)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _field(path: Path, name: str) -> int:
    with suppress(OSError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return 1024 * int(value.split()[0])
    return 0
