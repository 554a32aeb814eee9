"""The kernels' C interface, answered by the interpreter."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

from kernels.cache import cache_folder
from kernels.cuda.backend import CudaBackend
from kernels.cuda.build import SOURCES, digest_of, find_compiler, ptx_command
from kernels.cuda.library import (
    EpilogueArguments,
    GemmArguments,
    KernelLibrary,
    PrologueArguments,
    QkNormRopeArguments,
    Scheme,
)
from kernels.cuda.library import Layout as CodeLayout
from kernels.cuda.targets import Target, find_target
from kernels.cuda.tiles import tiles_of
from tests.kernels.cuda.ptx.block import Launch
from tests.kernels.cuda.ptx.counts import Counts
from tests.kernels.cuda.ptx.memory import GlobalMemory
from tests.kernels.cuda.ptx.program import Kernel, find_kernel, kernel_name

_RECORDER = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p
)
_FLOAT_BYTES = (4, 2, 2, 4)  # by the number of a type
_OUTPUTS = ("codes", "scale", "output", "q", "k")
Change = Callable[[str], str]


def ptx_of(target: Target, source: Path) -> str:
    """What nvcc makes of one source for `target`; kept where compiled kernels are. Raises
    BuildError's cause, CalledProcessError."""
    command = ptx_command(target, source)
    name = f"{source.stem}-{target.architecture}-{digest_of(command)}.ptx"
    path = cache_folder() / name
    if not path.exists():
        compiler = find_compiler()
        assert compiler is not None, "nvcc was not found"
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, *command, "-o", str(unfinished)], check=True, capture_output=True)
        unfinished.replace(path)
    return path.read_text()


@cache
def _kernel(target: Target, name: str) -> Kernel:
    return find_kernel(_module_of(target, name), name)


def _module_of(target: Target, kernel: str) -> str:
    """The PTX that has the kernel: a source's kernels are called after it."""
    return ptx_of(target, SOURCES / f"{kernel.split('_kernelI')[0]}.cu")


@cache
def _symbols(path: Path) -> dict[str, int]:
    """Places in the host's object: every function by its mangled name."""
    listed = subprocess.run(["nm", str(path)], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in listed.splitlines())
    return {row[2]: int(row[0], 16) for row in rows if len(row) == 3 and row[1] in "tTwW"}


def _sizes(arguments: ctypes.Structure) -> dict[str, int]:
    """Bytes behind every pointer, as `arguments.h` says."""
    a = arguments
    if isinstance(a, GemmArguments):
        element = _FLOAT_BYTES[a.output_dtype]
        four_bits = a.scheme in (Scheme.W4A4, Scheme.W4A4_WIDENED)
        return {
            "activation": a.m * a.k // (2 if four_bits else 1),
            "weight": a.n * a.k // (1 if a.scheme == Scheme.W8A8 else 2),
            "token_scale": 4 * a.m,
            **dict.fromkeys(("channel_scale", "bias", "layer_scale"), 4 * a.n),
            **dict.fromkeys(("residual", "output"), element * a.m * a.n),
        }
    if isinstance(a, EpilogueArguments):
        element = _FLOAT_BYTES[a.output_dtype]
        return {
            "sums": 4 * a.m * a.pitch,
            "token_scale": 4 * a.m,
            **dict.fromkeys(("channel_scale", "bias", "layer_scale"), 4 * a.n),
            **dict.fromkeys(("residual", "output"), element * a.m * a.n),
        }
    if isinstance(a, PrologueArguments):
        return {
            "input": _FLOAT_BYTES[a.input_dtype] * a.m * a.k * (2 if a.gated else 1),
            **dict.fromkeys(("norm_weight", "norm_bias", "smoothing"), 4 * a.k),
            **{"signs": a.k, "clip": 8, "scale": 4 * a.m},
            "codes": a.m * a.k // (2 if a.layout == CodeLayout.PACKED else 1),
        }
    assert isinstance(a, QkNormRopeArguments)
    head = _FLOAT_BYTES[a.dtype] * a.batch * a.tokens * a.heads * a.width
    return {
        "qkv": 3 * head,
        **dict.fromkeys(("q_weight", "q_bias", "k_weight", "k_bias"), 4 * a.width),
        **dict.fromkeys(("cosines", "sines"), 4 * a.tokens * a.width),
        **{"q": head, "k": head},
    }


class InterpretedLibrary(KernelLibrary):
    """The kernels as nvcc compiles them for `target`, run by the interpreter on this process's
    memory. `host` is the object of the emulation, whose host code decides on launches.

    `change` edits the PTX first. `launches` collects what each launch costs. With `most_blocks`
    only so many blocks of a launch are run, and outputs stay incomplete.
    """

    def __init__(
        self,
        host: Path,
        target: Target,
        change: Change | None = None,
        most_blocks: int | None = None,
    ) -> None:
        super().__init__(host)
        self._host, self._target, self._change = host, target, change
        self._most_blocks = most_blocks
        self.launches: list[Counts] = []

    def _call(self, name: str, arguments: ctypes.Structure) -> None:
        launches: list[tuple[str, int, int, int, bytes]] = []
        symbols = _symbols(self._host)
        address = ctypes.cast(self.handle.quantvggt_error, ctypes.c_void_p).value or 0
        base = address - symbols["quantvggt_error"]
        names = {place: symbol for symbol, place in symbols.items()}

        def record(kernel: int, blocks: int, threads: int, shared: int, given: int) -> None:
            size = ctypes.sizeof(arguments)
            data = ctypes.string_at(given, size)
            launches.append((names[kernel - base], blocks, threads, shared, data))

        recorder = _RECORDER(record)
        self.handle.emulation_record(recorder)
        try:
            super()._call(name, arguments)
        finally:
            self.handle.emulation_record(None)
        for symbol, *launch in launches:
            self._run(symbol, arguments, *launch)

    def _run(
        self,
        symbol: str,
        arguments: ctypes.Structure,
        blocks: int,
        threads: int,
        shared: int,
        data: bytes,
    ) -> None:
        memory, given = GlobalMemory(), type(arguments).from_buffer_copy(data)
        for field, size in _sizes(arguments).items():
            pointer = getattr(arguments, field)
            if pointer:
                address = memory.add(field, pointer, size, writable=field in _OUTPUTS)
                setattr(given, field, address)
        counts = Counts()
        kernel = self._kernel(kernel_name(symbol))
        launch = Launch(kernel, memory, bytes(given), threads, shared, counts)
        run = blocks if self._most_blocks is None else min(blocks, self._most_blocks)
        for block in range(run):
            launch.run(block)
        launch.finish()
        self.launches.append(counts)
        if run == blocks:
            memory.check_written()

    def _kernel(self, name: str) -> Kernel:
        if self._change is None:
            return _kernel(self._target, name)
        return find_kernel(self._change(_module_of(self._target, name)), name)


def interpreted_backend(
    host: Path, architecture: str, change: Change | None = None, most_blocks: int | None = None
) -> CudaBackend:
    """A backend whose kernels are interpreted, for CPU tensors; its library has the counts."""
    target = find_target(architecture)
    library = InterpretedLibrary(host, target, change, most_blocks)
    return CudaBackend(
        library, target, multiprocessors=1, stream=lambda device: 0, tiles=tiles_of(target)
    )
