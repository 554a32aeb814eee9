from __future__ import annotations

import platform
from collections.abc import Iterator

import pytest

from kernels import cpu

_INSTRUCTION_SETS = (
    ["neon"]
    if platform.machine() in ("aarch64", "arm64")
    else ["amx", "avx512", "avx-vnni", "avx2"]
)


@pytest.fixture(params=_INSTRUCTION_SETS)
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set of the library that this machine runs, one after the other."""
    if request.param not in cpu.available():
        pytest.skip(f"this machine does not run {request.param}")
    cpu.select(request.param)
    yield request.param
    cpu.select("auto")
