"""Native kernels for NVIDIA GPUs, as implementations of the operators in `kernels.ops`.

Importing registers them; it builds nothing and touches no GPU. The first operator that runs on a
GPU compiles the kernels for it if `make kernels-cuda` has not, and says so if it cannot.
"""

from kernels.cuda import operators

__all__ = ["operators"]
