"""What the steps share: their arguments, their rows, the kernels of a device."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kernels.cuda.backend import CudaBackend
from kernels.cuda.operators import find_backend


@dataclass(frozen=True)
class Step:
    """`small`: no GPU, tiny sizes."""

    device: torch.device
    path: Path

    @property
    def small(self) -> bool:
        return self.device.type == "cpu"

    def write(self, **row: Any) -> None:
        """Adds a row, which stays whatever comes after."""
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(json.dumps(row), flush=True)

    def backend(self) -> CudaBackend:
        """The kernels of the GPU, or without one in emulation. Raises RuntimeError if there are
        none."""
        if self.device.type == "cuda":
            found = find_backend(self.device)
            if not isinstance(found, CudaBackend):
                raise RuntimeError(found.reason)
            return found
        from kernels.cuda.library import KernelLibrary
        from tests.kernels.cuda.conftest import compile_emulation, emulated_backend

        return emulated_backend(KernelLibrary(compile_emulation("-O3", "-march=native")), "sm_90a")


def start(name: str, description: str) -> Step:
    """The step `name` as its arguments say; an earlier file of it is replaced."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    path = args.out / f"{name}.jsonl"
    path.unlink(missing_ok=True)
    return Step(torch.device("cuda", 0) if args.device == "cuda" else torch.device("cpu"), path)
