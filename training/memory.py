"""Makes the C allocator keep freed memory: a training step frees and asks for the same large blocks
each time."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # glibc's malloc.h


def keep_freed_memory() -> None:
    """Tells glibc to serve blocks up to 32 MiB from one heap that never shrinks; does nothing
    elsewhere.

    By default such blocks are mapped, zeroed and unmapped each time, and page faults of one thread
    stop the other.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_ARENA_MAX, 1)
    mallopt(_MMAP_THRESHOLD, 32 << 20)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
