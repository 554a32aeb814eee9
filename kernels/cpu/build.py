"""Compiles native libraries with the compiler that is present, once for each state of the sources.

Libraries are kept where `kernels.cache` says. A library that was built before is found without a
compiler. `KERNELS` is this folder's; other folders with native code say in `Sources` what theirs
are.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kernels.cache import cache_folder
from kernels.formats import DEFINITIONS

SOURCES = Path(__file__).parent
LIBRARY = "libquantvggt_cpu.so"
_COMPILERS = ("c++", "g++", "clang++")
# The reference rounds after every operation: no contraction to multiply-add unless the source says
# so.
_ARITHMETIC = ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
FLAGS = (
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-fvisibility=hidden",
    "-Wno-psabi",
    *_ARITHMETIC,
    *DEFINITIONS,
)
_AVX2 = ("-mavx2", "-mfma")
_AVX512 = (*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni")
INSTRUCTION_SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {
        "avx2": _AVX2,
        "avx_vnni": (*_AVX2, "-mavxvnni"),
        "avx512": _AVX512,
        "amx": (*_AVX512, "-mamx-tile", "-mamx-int8"),
    },
    "aarch64": {"neon": ("-march=armv8.2-a+dotprod",)},
}
_MACHINES = {"AMD64": "x86_64", "arm64": "aarch64"}


class BuildError(RuntimeError):
    """There is no library, and none can be built; the message says why."""


@dataclass(frozen=True)
class Sources:
    """What one library is compiled from: ``NAME.cpp`` for each instruction set of this machine and
    for each of `common`, all in `folder`.

    The code is told with ``WITHOUT_NAME`` which instruction sets the compiler did not know.
    """

    folder: Path
    library: str
    flags: tuple[str, ...]
    instruction_sets: Mapping[str, Mapping[str, tuple[str, ...]]]
    """For each machine, the flags that each instruction set needs."""
    common: tuple[str, ...]
    """Compiled for the plainest processor."""
    any_machine: bool = False
    """`common` runs by itself, where a machine has no instruction sets or the compiler none."""
    headers: tuple[Path, ...] = ()
    """Files outside of `folder` that it includes."""

    def files(self) -> list[Path]:
        return sorted((*self.folder.glob("*.cpp"), *self.folder.glob("*.h"), *self.headers))


KERNELS = Sources(
    folder=SOURCES,
    library=LIBRARY,
    flags=FLAGS,
    instruction_sets=INSTRUCTION_SETS,
    common=("library", "parallel"),
    headers=(SOURCES.parent / "formats.h",),
)


def library(sources: Sources = KERNELS) -> Path:
    """The compiled library of these sources, built now if it has to be. Raises BuildError."""
    machine = _MACHINES.get(platform.machine(), platform.machine())
    if machine not in sources.instruction_sets and not sources.any_machine:
        known = ", ".join(sources.instruction_sets)
        raise BuildError(f"no native kernels for {machine}; known: {known}")
    instruction_sets = sources.instruction_sets.get(machine, {})
    program = compiler()
    state = _digest(
        *(f"{file.name}\n{file.read_text()}" for file in sources.files()),
        str((sources.flags, instruction_sets)),
    )
    if program is None:
        found = sorted(cache_folder().glob(f"{state}-*/{sources.library}"))
        if not found:
            raise BuildError("no C++ compiler (looked for $CXX, " + ", ".join(_COMPILERS) + ")")
        return found[0]
    target = cache_folder() / f"{state}-{_digest(_version(program))}" / sources.library
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            os.replace(_compile(program, sources, instruction_sets, Path(work)), target)
    return target


def compiler() -> str | None:
    """The C++ compiler of this machine: $CXX, else the first that is found; None if there is
    none."""
    return os.environ.get("CXX") or next(filter(None, map(shutil.which, _COMPILERS)), None)


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _version(compiler: str) -> str:
    try:
        return subprocess.run(
            (compiler, "--version"), check=True, capture_output=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"the C++ compiler {compiler} does not run: {error}") from error


def _run(*command: str) -> str | None:
    """Runs a compiler; returns what it complained about, None if it succeeded."""
    finished = subprocess.run(command, capture_output=True, text=True)
    return (
        None
        if finished.returncode == 0
        else finished.stderr.strip() or f"exit status {finished.returncode}"
    )


def _compile(
    compiler: str,
    sources: Sources,
    instruction_sets: Mapping[str, tuple[str, ...]],
    work: Path,
) -> Path:
    """Instruction sets that the compiler does not know are left out; where `common` cannot do by
    itself, it must know one of them."""

    def build(name: str, *flags: str) -> str | None:
        source, target = str(sources.folder / f"{name}.cpp"), str(work / f"{name}.o")
        return _run(compiler, *sources.flags, *flags, "-c", source, "-o", target)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        failures = dict(
            zip(
                instruction_sets,
                pool.map(lambda item: build(item[0], *item[1]), instruction_sets.items()),
                strict=True,
            )
        )
    left_out = [name for name, failure in failures.items() if failure is not None]
    if len(left_out) == len(instruction_sets) and not sources.any_machine:
        raise BuildError(f"{compiler} compiles none of the kernels: {failures[left_out[0]]}")
    absent = [f"-DWITHOUT_{name.upper()}" for name in left_out]
    for name in sources.common:
        failure = build(name, *absent)
        if failure:
            raise BuildError(f"{compiler} fails: {failure}")
    objects = [
        str(work / f"{name}.o")
        for name in (*instruction_sets, *sources.common)
        if name not in left_out
    ]
    failure = _run(compiler, "-shared", "-pthread", "-o", str(work / sources.library), *objects)
    if failure:
        raise BuildError(f"{compiler} fails to link: {failure}")
    return work / sources.library
