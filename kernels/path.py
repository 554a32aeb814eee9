"""Which kernels run on a device, and why: the one place that the service and the manifest ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from kernels.fastest import Fastest

REFERENCE = "reference"


def _any_width(width: int, rotated: bool) -> bool:
    return True


@dataclass(frozen=True)
class KernelPath:
    """`name` of the kernels that run, and the `reason` where it is the definition in plain torch
    that does.

    `operators` have a native kernel there, and so have linear layers for which `fits(features_in,
    rotated)` holds; what has none runs as its definition in plain torch, which is right and slow.
    `times` are measured where more than these kernels may be the fastest.
    """

    name: str
    reason: str = ""
    operators: frozenset[str] = field(default=frozenset(), repr=False)
    fits: Callable[[int, bool], bool] = field(default=_any_width, repr=False)
    times: Fastest | None = field(default=None, repr=False)

    @property
    def native(self) -> bool:
        """Whether native kernels run."""
        return self.name != REFERENCE

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})" if self.reason else self.name


# by device type; filled by the backends themselves
BACKENDS: dict[str, Callable[[torch.device], KernelPath]] = {}


def kernel_path(device: str | torch.device = "cpu") -> KernelPath:
    """The kernels that run on `device`. The first call may build them and takes as long as that
    takes."""
    device = torch.device(device)
    backend = BACKENDS.get(device.type)
    if backend is None:
        return KernelPath(REFERENCE, f"there are no native kernels for {device.type}")
    return backend(device)
