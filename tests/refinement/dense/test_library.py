"""The compiled library on processors older than some of its code."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from kernels.cpu import build
from refinement.dense.library import built

_COMPILER, _SYMBOLS, _EMULATOR = build.compiler(), shutil.which("nm"), shutil.which("qemu-x86_64")
_LOADS = """
#include <dlfcn.h>
int main(int, char** arguments) { return dlopen(arguments[1], RTLD_NOW) ? 0 : 1; }
"""


@pytest.fixture(scope="module")
def library() -> Path:
    try:
        return built()
    except build.BuildError as error:
        pytest.skip(str(error))


@pytest.mark.skipif(_SYMBOLS is None, reason="needs nm")
def test_no_code_of_an_instruction_set_runs_when_the_library_is_loaded(library: Path) -> None:
    assert _SYMBOLS is not None
    symbols = subprocess.run([_SYMBOLS, str(library)], check=True, capture_output=True, text=True)
    assert "dense_rate" in symbols.stdout
    assert "_GLOBAL__sub_I" not in symbols.stdout  # what compilers call code that runs at loading


@pytest.mark.skipif(platform.machine() != "x86_64", reason="about processors without AVX2")
@pytest.mark.skipif(not (_COMPILER and _EMULATOR), reason="needs a C++ compiler and qemu-x86_64")
def test_a_processor_without_avx2_loads_the_library(library: Path, tmp_path: Path) -> None:
    assert _COMPILER is not None
    assert _EMULATOR is not None
    program = tmp_path / "loads"
    subprocess.run(
        [_COMPILER, "-x", "c++", "-", "-o", str(program), "-ldl"],
        check=True,
        input=_LOADS,
        text=True,
    )
    finished = subprocess.run([_EMULATOR, "-cpu", "Nehalem", str(program), str(library)])
    assert finished.returncode == 0
