"""Integer kernels of a quantised linear layer: the definition in plain torch and the layers that use it.

Importing builds nothing, touches no GPU and downloads nothing.
"""

from kernels.linear import SCHEMES, QuantizedLinear, W4A4Linear, W4A8Linear, W8A8Linear

KERNEL_PATH = "reference"

__all__ = ["KERNEL_PATH", "SCHEMES", "QuantizedLinear", "W4A4Linear", "W4A8Linear", "W8A8Linear"]
