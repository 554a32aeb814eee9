"""Compiles the CUDA kernels, one shared object for each target; no GPU is needed.

Objects are kept where `kernels.cache` says, by a hash of the sources and the command. They hold
machine code only, no PTX that another architecture could turn into emulated instructions, and link
no torch and no shared CUDA runtime.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from kernels.cache import cache_folder
from kernels.cuda.targets import Target
from kernels.formats import DEFINITIONS

SOURCES = Path(__file__).parent

# No fused multiply-add: the epilogue and the prologue round where the definition rounds.
_LANGUAGE = ["-O3", "-std=c++17", "-fmad=false", *DEFINITIONS]
_INCLUDES = ["-I", str(SOURCES / "hardware")]
_FLAGS = [*_LANGUAGE, "-cudart", "static", "-shared", "-Xcompiler", "-fPIC", "-Xptxas", "-v"]


class BuildError(RuntimeError):
    """The kernels could not be compiled; the message says why and what to do."""


def find_compiler() -> str | None:
    """nvcc of `CUDA_HOME`, of the search path, or of the usual place; None where there is none."""
    homes = [os.environ.get("CUDA_HOME", ""), "/usr/local/cuda"]
    candidates = [
        Path(homes[0]) / "bin" / "nvcc",
        shutil.which("nvcc"),
        Path(homes[1]) / "bin" / "nvcc",
    ]
    return next((str(path) for path in candidates if path and Path(path).is_file()), None)


def _sources() -> list[Path]:
    return sorted(SOURCES.glob("*.cu"))


def _products(target: Target) -> list[str]:
    """Tells the host code which products the architecture has."""
    return [
        f"-DQUANTVGGT_HAS_INT4_MMA={target.int4:d}",
        f"-DQUANTVGGT_HAS_WARPGROUP_MMA={target.warpgroup:d}",
    ]


def compile_command(target: Target) -> list[str]:
    """The compiler's arguments for `target`, without the output."""
    code = f"arch={target.architecture.replace('sm', 'compute')},code={target.architecture}"
    return [*_FLAGS, *_products(target), "-gencode", code, *_INCLUDES, *map(str, _sources())]


def ptx_command(target: Target, source: Path) -> list[str]:
    """The compiler's arguments for the virtual instructions of one source, without the output."""
    virtual = ["-ptx", "-arch", target.architecture]
    return [*_LANGUAGE, *_products(target), *virtual, *_INCLUDES, str(source)]


def object_path(target: Target) -> Path:
    """Where the compiled object of the present sources is, or would be; the compiler's report
    stands beside it."""
    return cache_folder() / f"cuda-{target.architecture}-{digest_of(_FLAGS)}.so"


def digest_of(flags: list[str]) -> str:
    """Tells the present sources, compiled with `flags`, from all others."""
    digest = hashlib.sha256(" ".join(map(str, flags)).encode())
    headers = [
        *SOURCES.glob("*.cuh"),
        *SOURCES.glob("*.h"),
        *SOURCES.glob("hardware/*"),
        SOURCES.parent / "formats.h",
    ]
    for path in sorted([*_sources(), *headers]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def build(target: Target) -> Path:
    """Compiles the kernels for `target` unless that is done, and returns the object. Raises
    BuildError."""
    path = object_path(target)
    if path.exists():
        return path
    compiler = find_compiler()
    if compiler is None:
        raise BuildError(
            "nvcc was not found; install the CUDA toolkit (12.8 or newer) or set CUDA_HOME"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        output = Path(folder) / path.name
        command = [compiler, *compile_command(target), "-o", str(output)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode != 0:
            raise BuildError(f"{' '.join(command)} failed:\n{finished.stderr.strip()}")
        path.with_suffix(".log").write_text(finished.stdout + finished.stderr)
        output.replace(path)  # whole or not at all, whoever else is building
    return path
