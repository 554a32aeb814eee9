"""The emulation shows faults, and the kernels run in it without touching memory that is not
theirs."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[3]
(
    CORRECT_MIRROR,
    MISSING_BARRIER,
    CORRECT_COPY,
    MISSING_WAIT,
    BARRIER_FOR_SOME,
    BEYOND_SHARED_MEMORY,
) = range(6)
RISING, FALLING = 0, 1
DEADLOCK = -2
FAULTY = Path(__file__).parent / "emulation" / "faulty.cu"
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1")


@pytest.fixture(scope="module")
def faulty(emulate: Any) -> ctypes.CDLL:
    return ctypes.CDLL(str(emulate("-O1", sources=(FAULTY,))))


def _run(library: ctypes.CDLL, kernel: int, schedule: int) -> tuple[int, torch.Tensor]:
    library.emulation_schedule(schedule)
    values, output = torch.arange(256, dtype=torch.float32), torch.full((64,), -1.0)
    error = library.run(
        kernel, ctypes.c_void_p(values.data_ptr()), ctypes.c_void_p(output.data_ptr())
    )
    return error, output


@pytest.mark.parametrize("schedule", [RISING, FALLING])
def test_correct_kernels_compute_the_same_in_both_schedules(
    faulty: ctypes.CDLL, schedule: int
) -> None:
    assert torch.equal(
        _run(faulty, CORRECT_MIRROR, schedule)[1], torch.arange(63, -1, -1, dtype=torch.float32)
    )
    assert torch.equal(
        _run(faulty, CORRECT_COPY, schedule)[1], torch.arange(0, 256, 4, dtype=torch.float32)
    )


@pytest.mark.parametrize("schedule", [RISING, FALLING])
def test_a_missing_barrier_gives_a_wrong_result(faulty: ctypes.CDLL, schedule: int) -> None:
    right = _run(faulty, CORRECT_MIRROR, schedule)[1]
    assert not torch.equal(_run(faulty, MISSING_BARRIER, schedule)[1], right)


def test_a_missing_wait_gives_a_wrong_result_when_copies_are_late(faulty: ctypes.CDLL) -> None:
    assert not torch.equal(
        _run(faulty, MISSING_WAIT, FALLING)[1], _run(faulty, CORRECT_COPY, FALLING)[1]
    )


def test_a_barrier_that_not_all_threads_reach_is_an_error(faulty: ctypes.CDLL) -> None:
    assert _run(faulty, BARRIER_FOR_SOME, RISING)[0] == DEADLOCK


def _run_sanitized(*command: str) -> subprocess.CompletedProcess[str]:
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        pytest.skip("no C++ compiler")
    runtime = subprocess.run(
        [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True
    ).stdout.strip()
    if not Path(runtime).is_file():
        pytest.skip(f"{compiler} has no address sanitizer")
    environment = os.environ | {
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",
        "EMULATION_FLAGS": " ".join(SANITIZERS),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_address_sanitizer_shows_a_read_beyond_shared_memory(emulate: Any) -> None:
    library = emulate(*SANITIZERS, sources=(FAULTY,))
    code = (
        "import ctypes, sys\n"
        f"values, output = (ctypes.c_float * 256)(), (ctypes.c_float * 64)()\n"
        f"ctypes.CDLL({str(library)!r}).run(int(sys.argv[1]), values, output)\n"
    )
    assert _run_sanitized("-c", code, str(CORRECT_COPY)).returncode == 0
    assert (
        "AddressSanitizer: heap-buffer-overflow"
        in _run_sanitized("-c", code, str(BEYOND_SHARED_MEMORY)).stderr
    )


@pytest.mark.slow
def test_kernels_stay_inside_their_memory_under_the_address_sanitizer() -> None:
    """The ragged cases of `test_backend.py` again, with guards around every tensor and around
    shared memory."""
    chosen = (
        "(accumulators_are and 130) or view or no_power_of_two "
        "or (float32 and (surroundings or queries))"
    )
    options = ("-q", "-p", "no:cacheprovider", "-k", f"rising and ({chosen})")
    finished = _run_sanitized("-m", "pytest", "tests/kernels/cuda/test_backend.py", *options)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    assert " passed" in finished.stdout
