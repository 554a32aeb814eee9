"""Integer kernels of a quantised network: the definition in plain torch, native kernels, and the layers that use them.

Importing builds nothing, touches no GPU and downloads nothing.
"""

from kernels import cpu, cuda  # each registers its operators
from kernels.linear import SCHEMES, QuantizedLinear, W4A4Linear, W4A8Linear, W4A16Linear, W8A8Linear
from kernels.path import KernelPath, kernel_path
from kernels.precision import computes_bfloat16

__all__ = [
    "SCHEMES",
    "KernelPath",
    "QuantizedLinear",
    "W4A4Linear",
    "W4A8Linear",
    "W4A16Linear",
    "W8A8Linear",
    "computes_bfloat16",
    "cpu",
    "cuda",
    "kernel_path",
]
