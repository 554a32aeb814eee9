"""Native kernels for CPUs in C++, behind the operators of `kernels.ops`. Built and loaded at the
first call."""

from kernels import ops
from kernels.cpu import operators
from kernels.cpu.library import available, path, select
from kernels.path import BACKENDS

for _name in ops.SCHEMAS:
    ops.LIBRARY.impl(_name, getattr(operators, _name), "CPU")
BACKENDS["cpu"] = path

__all__ = ["available", "select"]
