"""Which kernels run on a device, and why: the one place that the service and the manifest ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

REFERENCE = "reference"


@dataclass(frozen=True)
class KernelPath:
    """`name` of the kernels that run, and the `reason` where it is the definition in plain torch that does."""

    name: str
    reason: str = ""

    @property
    def native(self) -> bool:
        """Whether native kernels run."""
        return self.name != REFERENCE

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})" if self.reason else self.name


BACKENDS: dict[str, Callable[[torch.device], KernelPath]] = {}  # by device type; filled by the backends themselves


def kernel_path(device: str | torch.device = "cpu") -> KernelPath:
    """The kernels that run on `device`. The first call may build them and takes as long as that takes."""
    device = torch.device(device)
    backend = BACKENDS.get(device.type)
    if backend is None:
        return KernelPath(REFERENCE, f"there are no native kernels for {device.type}")
    return backend(device)
