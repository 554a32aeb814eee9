"""The CUDA kernels' own source, compiled for a CPU against `emulation/`, behind the same C
interface."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from kernels.cache import cache_folder
from kernels.cuda.backend import CudaBackend
from kernels.cuda.build import SOURCES
from kernels.cuda.library import KernelLibrary
from kernels.cuda.operators import find_backend
from kernels.cuda.products import products_of
from kernels.cuda.targets import find_target
from kernels.cuda.tiles import tiles_of
from kernels.formats import DEFINITIONS

# Fresh memory is poisoned by torch's deterministic algorithms, which on a GPU want this to be set.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

EMULATION = Path(__file__).parent / "emulation"


def compile_emulation(
    *flags: str, sources: tuple[Path, ...] = tuple(sorted(SOURCES.glob("*.cu")))
) -> Path:
    """The shared object of `sources`, by default all kernels, in emulation; cached by its sources
    and flags."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        pytest.skip("no C++ compiler: the emulated kernels cannot be built")
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-std=c++17",
        "-ffp-contract=off",
        "-Wall",
        "-Wextra",
        "-Werror",
    ]
    command += [
        "-Wno-unknown-pragmas",
        *DEFINITIONS,
        *flags,
        "-I",
        str(EMULATION),
        "-x",
        "c++",
        *map(str, sources),
    ]
    command += [str(EMULATION / "schedule.cc")]
    digest = hashlib.sha256(" ".join(command).encode())
    headers = [*SOURCES.glob("*.cuh"), *SOURCES.glob("*.h"), SOURCES.parent / "formats.h"]
    for path in sorted([*sources, *headers, *EMULATION.iterdir()]):
        digest.update(path.read_bytes())
    path = cache_folder() / f"emulation-{digest.hexdigest()[:12]}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        finished = subprocess.run(
            [*command, "-o", str(unfinished)], capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stderr
        unfinished.replace(path)
    return path


@dataclass(frozen=True)
class Machine:
    """A backend and the device of the tensors that it takes."""

    backend: CudaBackend
    device: torch.device

    def __call__(self, *tensors: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        """The tensors on this machine's device."""
        return tuple(None if tensor is None else tensor.to(self.device) for tensor in tensors)


@pytest.fixture(scope="session")
def emulate() -> Callable[..., Path]:
    return compile_emulation


@pytest.fixture(scope="session")
def emulated_library() -> KernelLibrary:
    """Set EMULATION_FLAGS to compile with more flags, such as sanitizers."""
    return KernelLibrary(
        compile_emulation("-O3", "-march=native", *os.environ.get("EMULATION_FLAGS", "").split())
    )


EMULATED = ["sm_80 rising", "sm_80 falling", "sm_90a rising", "sm_90a falling"]
GPU = [pytest.param("gpu", marks=pytest.mark.cuda)] if torch.cuda.is_available() else []


@pytest.fixture(params=EMULATED + GPU)
def machine(request: pytest.FixtureRequest) -> Machine:
    """A real GPU, or the emulation: its two ways to multiply 4-bit codes, each in its two schedules
    (`device.cuh`)."""
    if request.param == "gpu":
        device = torch.device("cuda", torch.cuda.current_device())
        backend = find_backend(device)
        assert isinstance(backend, CudaBackend), backend
        return Machine(backend, device)
    target, schedule = request.param.split()
    library: KernelLibrary = request.getfixturevalue("emulated_library")
    library.handle.emulation_schedule(schedule == "falling")
    return Machine(emulated_backend(library, target), torch.device("cpu"))


def emulated_backend(library: KernelLibrary, architecture: str) -> CudaBackend:
    target = find_target(architecture)
    return CudaBackend(
        library,
        target,
        multiprocessors=1,
        stream=lambda device: 0,
        tiles=tiles_of(target),
        products=products_of(target.capability),
    )
