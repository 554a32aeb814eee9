"""Integer kernels of a quantised network: the definition in plain torch, native kernels, and the layers that use them.

Importing builds nothing, touches no GPU and downloads nothing.
"""

from kernels import cpu, cuda  # each registers its operators
from kernels.linear import SCHEMES, QuantizedLinear, W4A4Linear, W4A8Linear, W4A16Linear, W8A8Linear
from kernels.path import KernelPath, kernel_path

__all__ = [
    "SCHEMES",
    "KernelPath",
    "QuantizedLinear",
    "W4A4Linear",
    "W4A8Linear",
    "W4A16Linear",
    "W8A8Linear",
    "cpu",
    "cuda",
    "kernel_path",
]
