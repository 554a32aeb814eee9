"""Integer kernels of a quantised network: the definition in plain torch, native kernels, and the
layers that use them.

Importing builds nothing, touches no GPU and downloads nothing.
"""

from kernels import cpu, cuda  # each registers its operators
from kernels.dequantized import DequantizedLinear
from kernels.formats import FORMATS, NumberFormat, with_wide_activations
from kernels.linear import QuantizedLinear
from kernels.path import KernelPath, kernel_path
from kernels.precision import computes_bfloat16

__all__ = [
    "FORMATS",
    "DequantizedLinear",
    "KernelPath",
    "NumberFormat",
    "QuantizedLinear",
    "computes_bfloat16",
    "cpu",
    "cuda",
    "kernel_path",
    "with_wide_activations",
]
