"""Whether the device that the network runs on can still be used."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch

from service.errors import DeviceLost

_EXHAUSTED_JOBS = 3
# What CUDA says of errors after which every further call of the process fails, the likes of XID 13,
# 31, 43, 45, 48, 63, 64, 74, 79 and 94 (NVIDIA, "XID Errors"); the words are those of
# cudaGetErrorString.
_STICKY = (
    "illegal memory access",
    "device-side assert",
    "unspecified launch failure",
    "uncorrectable ECC error",
    "uncorrectable NVLink error",
    "misaligned address",
    "illegal instruction",
    "invalid program counter",
    "hardware stack error",
    "operation not supported on global/shared address space",
    "launch timed out",
    "no CUDA-capable device",
    "device(s) is/are busy or unavailable",
    "driver shutting down",
    "context is destroyed",
    "unknown error",
    "external device failure",
)


def is_lost(error: BaseException) -> bool:
    """Whether an error that torch raised says that this process can't use its device any more.
    Running out of memory is none of those."""
    if not isinstance(error, RuntimeError) or isinstance(error, torch.OutOfMemoryError):
        return False
    named = getattr(torch, "AcceleratorError", None)  # from torch 2.8 on
    words = str(error)
    told = words.startswith(("CUDA error", "CUDA driver error", "NCCL error"))
    of_device = told or (named is not None and isinstance(error, named))
    return of_device and any(each in words for each in _STICKY)


class DeviceHealth:
    """Tells `on_loss` once the process has to be given up for its `device`'s sake."""

    def __init__(self, device: str, on_loss: Callable[[Exception], None]) -> None:
        self._device = device
        self._on_loss = on_loss
        self._exhausted = 0

    def check(self, error: RuntimeError) -> None:
        """Raises DeviceLost if `error` says that the device can't be used any more."""
        if is_lost(error):
            words = str(error).partition("\n")[0]
            self._lose(f"The device {self._device} can't be used any more: {words}.")

    def worked(self) -> None:
        """A pass came to its end."""
        self._exhausted = 0

    def exhausted(self) -> None:
        """A job ran out of memory with the least that can be run. After several of them, without a
        pass between them that came to its end, something holds the memory that a new process may
        have."""
        self._exhausted += 1
        if self._exhausted >= _EXHAUSTED_JOBS:
            with suppress(DeviceLost):  # the job has its own end
                self._lose(f"{self._exhausted} jobs in turn ran out of memory on {self._device}.")

    def _lose(self, words: str) -> None:
        lost = DeviceLost(words)
        self._on_loss(lost)
        raise lost
