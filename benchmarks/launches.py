"""What a quantised layer costs in Python before a GPU has anything to do, on this machine's CPU.

    python -m benchmarks.launches

The CUDA backend runs on CPU tensors with kernels that return at once: checks of the arguments,
torch's dispatcher, the choice of a kernel from a table that knows the shape, memory and the calls
of the library are as on a GPU. What only a GPU has is left out: finding its backend, making it the
current one, and the launches themselves. Microseconds of processor time, the least of several runs.
"""

from __future__ import annotations

import ctypes
import dataclasses
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch

from benchmarks.timing import Call
from kernels import FORMATS, ops
from kernels.cuda.backend import CudaBackend
from kernels.cuda.library import KernelLibrary
from kernels.fastest import Fastest
from kernels.linear import QuantizedLinear
from tests.kernels.cuda.conftest import compile_emulation, emulated_backend

TOKENS, FEATURES, CHANNELS = 1374, 1024, 3072  # qkv of VGGT-1B, for one frame
HEADS, WIDTH = 16, 64
CALLS, RUNS = 500, 7


class _Idle(KernelLibrary):
    """Calls of the library that start nothing."""

    def _call(self, name: str, arguments: ctypes.Structure) -> None:
        self.handle.quantvggt_arguments_bytes(0)


def main() -> int:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Warning only once for all operators")
    library = _Idle(compile_emulation("-O3", "-march=native"))
    own = torch.library.Library(ops.LIBRARY.ns, "IMPL")
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        times = Fastest(Path(folder), "this", torch.device("cpu"))
        backend = dataclasses.replace(emulated_backend(library, "sm_90a"), times=times)
        for name in ("linear", "qk_norm_rope"):
            own.impl(name, getattr(backend, name), "CPU", allow_override=True)
        for name, call in _calls(backend).items():
            print(f"{name:44} {_microseconds(call):6.1f}")
    return 0


def _calls(backend: CudaBackend) -> dict[str, Call]:
    x = torch.zeros(TOKENS, FEATURES, dtype=torch.bfloat16)
    norm = torch.nn.LayerNorm(FEATURES)
    layer = QuantizedLinear.from_float(
        FORMATS["w4a4"],
        torch.zeros(CHANNELS, FEATURES),
        torch.zeros(CHANNELS),
        signs=torch.ones(FEATURES, dtype=torch.int8),
    )
    given = (layer.weight, layer.weight_scale, layer.bias, 4, 4, norm.weight, norm.bias, norm.eps)
    arguments = (x, *given, False, layer.signs, *[None] * 4, x.dtype)
    qkv = torch.zeros(1, TOKENS, 3, HEADS, WIDTH, dtype=torch.bfloat16)
    head, table = torch.ones(WIDTH), torch.ones(TOKENS, WIDTH)
    heads = dict.fromkeys(("q_weight", "q_bias", "k_weight", "k_bias"), head)
    two = torch.ones(2)

    def outputs() -> tuple[torch.Tensor, ...]:
        return (
            x.new_empty((TOKENS, CHANNELS)),
            x.new_empty((TOKENS, FEATURES), dtype=torch.int8),
            x.new_empty((TOKENS, 1), dtype=torch.float32),
        )

    return {
        "a layer, as a network calls it": lambda: layer(x, norm=norm),
        "of this, torch's dispatcher and the backend": lambda: torch.ops.quantvggt.linear(
            *arguments
        ),
        "of this, the backend": lambda: backend.linear(*arguments),
        "of this, memory for what it writes": outputs,
        "queries and keys": lambda: ops.qk_norm_rope(qkv, **heads, cos=table, sin=table),
        "an operator of torch: two numbers and two": lambda: torch.ops.aten.add.Tensor(two, two),
    }


def _microseconds(call: Call) -> float:
    """Of one call; the first one, which fills the table of times, is not counted."""
    call()
    runs = []
    for _ in range(RUNS):
        started = time.process_time()
        for _ in range(CALLS):
            call()
        runs.append(time.process_time() - started)
    return 1e6 * min(runs) / CALLS


if __name__ == "__main__":
    sys.exit(main())
