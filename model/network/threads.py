"""How many threads a pass takes on a CPU; the native kernels share torch's."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import torch

_MEMBERSHIP, _HIERARCHY = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def limit_threads(threads: int | None = None) -> int:
    """Let torch use `threads`, without a number as many as it would by itself, within this
    container's share.

    torch counts the machine's cores. Where a container may use less (`docker run --cpus`, a pod's
    CPU limit), threads beyond it wait for each other while the kernel holds them back. Returns the
    number.
    """
    if threads is None:
        threads = max(1, math.floor(min(torch.get_num_threads(), share())))
    torch.set_num_threads(threads)
    return threads


def share(membership: Path = _MEMBERSHIP, hierarchy: Path = _HIERARCHY) -> float:
    """Cores that the process's control group and those above it may use together; infinity where
    nothing limits them.

    Linux, control groups version 2: `cpu.max` holds microseconds, or "max", of every so many.
    """
    shares = [math.inf]
    with suppress(OSError, ValueError):
        own = [
            line[3:].strip("/")
            for line in membership.read_text().splitlines()
            if line.startswith("0::")
        ]
        for group in (
            path for name in own for path in (hierarchy / name, *(hierarchy / name).parents)
        ):
            with suppress(OSError, ValueError):
                quota, period = (group / "cpu.max").read_text().split()
                shares.append(int(quota) / int(period))
    return min(shares)
