from __future__ import annotations

import pytest
import torch

from service.errors import DeviceLost
from service.inference.device import DeviceHealth, is_lost

_ADVICE = "\nCUDA kernel errors might be asynchronously reported at some other API call"
ACCELERATOR = getattr(torch, "AcceleratorError", RuntimeError)  # torch before 2.8 has no own class


@pytest.mark.parametrize("kind", [ACCELERATOR, RuntimeError])
@pytest.mark.parametrize(
    "words",
    [
        "an illegal memory access was encountered",
        "device-side assert triggered",
        "unspecified launch failure",
        "uncorrectable ECC error encountered",
        "no CUDA-capable device is detected",
    ],
)
def test_errors_after_which_every_call_fails_say_that_the_device_is_lost(
    kind: type[RuntimeError], words: str
) -> None:
    assert is_lost(kind(f"CUDA error: {words}{_ADVICE}"))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        ACCELERATOR("CUDA error: out of memory"),
        RuntimeError("CUDA error: invalid argument"),
        RuntimeError("a picture called 'unknown error' has the wrong shape"),
        ValueError("CUDA error: unspecified launch failure"),
    ],
)
def test_other_errors_say_nothing_of_the_device(error: Exception) -> None:
    assert not is_lost(error)


def test_jobs_that_run_out_of_memory_in_turn_give_the_process_up() -> None:
    told: list[Exception] = []
    health = DeviceHealth("cuda:0", told.append)
    for _ in range(2):
        health.exhausted()
    health.worked()
    for _ in range(2):
        health.exhausted()
    assert told == []
    health.exhausted()
    (lost,) = told
    assert isinstance(lost, DeviceLost)
    assert str(lost) == "3 jobs in turn ran out of memory on cuda:0."
