"""The compiled library: loaded at the first call, one instruction set chosen. Structures mirror
`interface.h`."""

from __future__ import annotations

import ctypes
import os
import threading
from ctypes import POINTER, Structure, c_char_p, c_float, c_int32, c_int64, c_void_p
from pathlib import Path

import torch

from kernels.cpu import build
from kernels.path import REFERENCE, KernelPath

VARIABLE = "QUANTVGGT_KERNELS"
AUTO = "auto"


class Rows(Structure):
    _fields_ = (
        ("x", c_void_p),
        ("rows", c_int64),
        ("features", c_int64),
        ("norm_weight", c_void_p),
        ("norm_bias", c_void_p),
        ("signs", c_void_p),
        ("base", c_void_p),
        ("smoothing", c_void_p),
        ("clip", c_void_p),
        ("norm_eps", c_float),
        ("hadamard_scale", c_float),
        ("order", c_int32),
        ("gelu", c_int32),
        ("gated", c_int32),
        ("largest_code", c_int32),
    )


class Product(Structure):
    _fields_ = (
        ("weight", c_void_p),
        ("outputs", c_int64),
        ("weight_scale", c_void_p),
        ("bias", c_void_p),
        ("layer_scale", c_void_p),
        ("residual", c_void_p),
        ("y", c_void_p),
        ("accumulators", c_void_p),
        ("codes_to_a_byte", c_int32),
    )


class Heads(Structure):
    _fields_ = (
        ("x", c_void_p),
        ("batch", c_int64),
        ("tokens", c_int64),
        ("heads", c_int64),
        ("width", c_int64),
        ("stride", c_int64),
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("cos", c_void_p),
        ("sin", c_void_p),
        ("positions", c_int64),
        ("y", c_void_p),
        ("norm_eps", c_float),
    )


class Attention(Structure):
    _fields_ = (
        ("q", c_void_p),
        ("k", c_void_p),
        ("v", c_void_p),
        ("batch", c_int64),
        ("heads", c_int64),
        ("queries", c_int64),
        ("keys", c_int64),
        ("width", c_int64),
        ("q_stride", c_int64 * 3),
        ("k_stride", c_int64 * 3),
        ("v_stride", c_int64 * 3),
        ("y", c_void_p),
        ("packed", c_void_p),
    )


class Tiles(Structure):
    _fields_ = (
        ("map", c_void_p),
        ("products", c_void_p),
        ("bias", c_void_p),
        ("height", c_int64),
        ("width", c_int64),
        ("channels", c_int64),
        ("first", c_int64),
        ("rows", c_int64),
    )


_ENTRIES = {
    "quantize_rows": (POINTER(Rows), c_void_p, c_void_p),
    "integer_matmul": (c_void_p, POINTER(Rows), POINTER(Product)),
    "linear": (POINTER(Rows), POINTER(Product)),
    "norm_rope": (POINTER(Heads),),
    "pack_keys_values": (POINTER(Attention),),
    "packed_attention": (POINTER(Attention),),
    "int8_attention": (POINTER(Attention),),
    "tile_factors": (POINTER(Tiles),),
    "tile_outputs": (POINTER(Tiles),),
}
OPERATORS = frozenset((*_ENTRIES, "qk_norm_rope"))
"""Those of `kernels.ops` that run natively; some are made of the same entry."""


class Library:
    """The shared object and the instruction sets of it that this processor runs, fastest first."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.quantvggt_path_name.restype = c_char_p
        self._library.quantvggt_kernels.restype = c_void_p
        self.kernels: dict[str, int] = {}
        index = 0
        while name := self._library.quantvggt_path_name(index):
            address = self._library.quantvggt_kernels(index)
            if address:
                self.kernels[name.decode()] = address
            index += 1
        for entry, arguments in _ENTRIES.items():
            function = getattr(self._library, f"quantvggt_{entry}")
            function.argtypes, function.restype = (c_void_p, *arguments, c_int32), c_int32
        self._library.quantvggt_packed_bytes.argtypes = (c_void_p, c_int64, c_int64)
        self._library.quantvggt_packed_bytes.restype = c_int64
        pool = _torch_openmp()
        if pool is not None:
            self._library.quantvggt_use_openmp.argtypes = (c_void_p,)
            self._library.quantvggt_use_openmp(pool)

    def call(self, entry: str, kernels: int, *arguments: object) -> None:
        """Runs one operator on as many threads as torch has. Raises MemoryError."""
        function = getattr(self._library, f"quantvggt_{entry}")
        if function(kernels, *arguments, torch.get_num_threads()):
            raise MemoryError(f"{entry}: no memory for the scratch of the kernels")

    def packed_bytes(self, kernels: int, keys: int, width: int) -> int:
        """What the packed keys and values of one head take."""
        found: int = self._library.quantvggt_packed_bytes(kernels, keys, width)
        return found


def _torch_openmp() -> int | None:
    """Address of GOMP_parallel in the OpenMP runtime that torch has loaded, so that both share one
    thread pool."""
    try:
        mapped = {
            line.split(maxsplit=5)[-1].strip()
            for line in Path("/proc/self/maps").read_text().splitlines()
        }
    except OSError:
        return None
    # torch.libs, beside it, holds what a wheel brings along
    folder = str(Path(torch.__file__).parent)
    runtimes = [
        path for path in mapped if Path(path).name.startswith(("libgomp", "libiomp5", "libomp"))
    ]
    for path in sorted(runtimes, key=lambda path: not path.startswith(folder)):
        try:
            return ctypes.cast(ctypes.CDLL(path).GOMP_parallel, c_void_p).value
        except (OSError, AttributeError):
            continue
    return None


_lock = threading.Lock()
_library: Library | None = None
_chosen: tuple[KernelPath, int] | None = None


def select(name: str = AUTO) -> KernelPath:
    """Chooses the kernels for all later calls: "auto" (the fastest), "reference", or an instruction
    set by name.

    Raises ValueError if this machine cannot run what was asked for.
    """
    global _library, _chosen
    with _lock:
        if name == REFERENCE:
            _chosen = KernelPath(REFERENCE, "asked for"), 0
            return _chosen[0]
        failure = ""
        try:
            _library = _library or Library(build.library())
        except (build.BuildError, OSError) as error:
            failure = str(error)
        available = _library.kernels if _library else {}
        if name == AUTO and available:
            name = next(iter(available))
        if name in available:
            _chosen = KernelPath(f"cpu/{name}", operators=OPERATORS), available[name]
        elif name == AUTO:
            _chosen = (
                KernelPath(REFERENCE, failure or "this processor has none of the instruction sets"),
                0,
            )
        else:
            runs = ", ".join((AUTO, REFERENCE, *available))
            raise ValueError(
                f"kernels {name!r} cannot run here; expected one of {runs}"
                + (f" ({failure})" if failure else "")
            )
        return _chosen[0]


def available() -> tuple[str, ...]:
    """Instruction sets that this machine runs, fastest first; builds the library if need be."""
    path()
    if _library is None:
        select(AUTO)
    return tuple(_library.kernels) if _library else ()


def path(device: torch.device | None = None) -> KernelPath:
    """What runs: the last choice, at first the one that the environment variable QUANTVGGT_KERNELS
    names."""
    return _chosen[0] if _chosen is not None else select(os.environ.get(VARIABLE, AUTO))


def native() -> tuple[Library, int] | None:
    """The library and the chosen kernels in it, or None where the definition in plain torch
    runs."""
    path()
    assert _chosen is not None
    return (_library, _chosen[1]) if _library is not None and _chosen[1] else None
