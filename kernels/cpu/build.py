"""Compiles the library with the compiler that is present, once for each state of the sources.

Libraries are kept where `kernels.cache` says. A library that was built before is found without a
compiler.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
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


def library() -> Path:
    """The compiled library of these sources, built now if it has to be. Raises BuildError."""
    machine = _MACHINES.get(platform.machine(), platform.machine())
    if machine not in INSTRUCTION_SETS:
        raise BuildError(f"no native kernels for {machine}; known: {', '.join(INSTRUCTION_SETS)}")
    program = compiler()
    state = _digest(
        *(f"{file.name}\n{file.read_text()}" for file in _files()),
        str((FLAGS, INSTRUCTION_SETS[machine])),
    )
    if program is None:
        found = sorted(cache_folder().glob(f"{state}-*/{LIBRARY}"))
        if not found:
            raise BuildError("no C++ compiler (looked for $CXX, " + ", ".join(_COMPILERS) + ")")
        return found[0]
    target = cache_folder() / f"{state}-{_digest(_version(program))}" / LIBRARY
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            os.replace(_compile(program, INSTRUCTION_SETS[machine], Path(work)), target)
    return target


def compiler() -> str | None:
    """The C++ compiler of this machine: $CXX, else the first that is found; None if there is
    none."""
    return os.environ.get("CXX") or next(filter(None, map(shutil.which, _COMPILERS)), None)


def _files() -> list[Path]:
    return sorted((*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h"), SOURCES.parent / "formats.h"))


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


def _compile(compiler: str, instruction_sets: dict[str, tuple[str, ...]], work: Path) -> Path:
    """Instruction sets that the compiler does not know are left out; it must know one of them."""

    def build(name: str, *flags: str) -> str | None:
        source, target = str(SOURCES / f"{name}.cpp"), str(work / f"{name}.o")
        return _run(compiler, *FLAGS, *flags, "-c", source, "-o", target)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        failures = dict(
            zip(
                instruction_sets,
                pool.map(lambda item: build(item[0], *item[1]), instruction_sets.items()),
                strict=True,
            )
        )
    left_out = [name for name, failure in failures.items() if failure is not None]
    if len(left_out) == len(instruction_sets):
        raise BuildError(f"{compiler} compiles none of the kernels: {failures[left_out[0]]}")
    for name, flags in (
        ("library", [f"-DWITHOUT_{name.upper()}" for name in left_out]),
        ("parallel", []),
    ):
        failure = build(name, *flags)
        if failure:
            raise BuildError(f"{compiler} fails: {failure}")
    objects = [
        str(work / f"{name}.o")
        for name in (*instruction_sets, "library", "parallel")
        if name not in left_out
    ]
    failure = _run(compiler, "-shared", "-pthread", "-o", str(work / LIBRARY), *objects)
    if failure:
        raise BuildError(f"{compiler} fails to link: {failure}")
    return work / LIBRARY
