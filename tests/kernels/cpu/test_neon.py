"""The ARM kernels where there is no ARM: cross-compiled and run by an emulator (Debian:
g++-aarch64-linux-gnu, qemu-user)."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from kernels.cpu import build

_COMPILER, _EMULATOR = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")


@pytest.mark.slow
@pytest.mark.skipif(
    platform.machine() == "aarch64", reason="the other tests run the ARM kernels here"
)
@pytest.mark.skipif(
    not (_COMPILER and _EMULATOR), reason="needs aarch64-linux-gnu-g++ and qemu-aarch64"
)
def test_arm_kernels_are_exact_under_emulation(tmp_path: Path) -> None:
    assert _COMPILER is not None
    assert _EMULATOR is not None
    flags = {**build.INSTRUCTION_SETS["aarch64"], "library": (), "parallel": ()}
    sources = {build.SOURCES / f"{name}.cpp": options for name, options in flags.items()}
    sources[Path(__file__).parent / "check.cpp"] = ()
    for source, options in sources.items():
        target = tmp_path / f"{source.stem}.o"
        subprocess.run(
            [_COMPILER, *build.FLAGS, *options, "-c", str(source), "-o", str(target)], check=True
        )
    objects = [str(tmp_path / f"{source.stem}.o") for source in sources]
    subprocess.run(
        [_COMPILER, "-static", "-pthread", *objects, "-o", str(tmp_path / "check")], check=True
    )
    finished = subprocess.run(
        [_EMULATOR, "-cpu", "max", str(tmp_path / "check")], capture_output=True, text=True
    )
    assert (finished.returncode, finished.stdout) == (0, "neon: 0 wrong results\n")
