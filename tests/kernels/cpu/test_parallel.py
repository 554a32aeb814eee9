"""Threads of the kernels where torch has none to share, and memory or threads run out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kernels.cpu import build

_COMPILER = build.compiler()


@pytest.mark.skipif(_COMPILER is None, reason="needs a C++ compiler")
@pytest.mark.skipif(sys.platform != "linux", reason="bounds memory as Linux does")
def test_tasks_are_done_or_memory_is_said_to_have_run_out(tmp_path: Path) -> None:
    assert _COMPILER is not None
    sources = (build.SOURCES / "parallel.cpp", Path(__file__).parent / "parallel_check.cpp")
    program = tmp_path / "check"
    subprocess.run(
        [_COMPILER, "-std=c++17", "-O1", "-pthread", *map(str, sources), "-o", str(program)],
        check=True,
    )
    finished = subprocess.run([str(program)], capture_output=True, text=True)
    assert (finished.returncode, finished.stdout) == (
        0,
        "one thread: out of memory\n"
        "four threads: out of memory\n"
        "four threads: all done\n"
        "more threads than fit into memory: all done\n",
    )
