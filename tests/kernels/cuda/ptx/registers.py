"""The registers of a block's threads, as numpy arrays of one element per thread.

PTX ISA, "Types" and "Operands": a register holds bits of its declared size; every instruction says
which type it reads them as. Operands are therefore views of the arrays, made once per instruction.
"""

from __future__ import annotations

import numpy as np

from tests.kernels.cuda.ptx.program import Kernel

TYPES: dict[str, type[np.generic]] = {
    **{"u8": np.uint8, "s8": np.int8, "b8": np.uint8},
    **{"u16": np.uint16, "s16": np.int16, "b16": np.uint16, "f16": np.float16},
    **{"bf16": np.uint16},
    **{"u32": np.uint32, "s32": np.int32, "b32": np.uint32, "f32": np.float32},
    **{"u64": np.uint64, "s64": np.int64, "b64": np.uint64, "f64": np.float64},
    "pred": np.bool_,
}


def size_of(kind: str) -> int:
    """Bytes of a value of type `kind`."""
    return np.dtype(TYPES[kind]).itemsize


class Registers:
    """Registers of `threads` threads. `shared_base` is the address of shared memory."""

    def __init__(self, kernel: Kernel, threads: int, shared_base: int) -> None:
        self.threads = threads
        self._declared = kernel.registers
        self._arrays: dict[str, np.ndarray] = {}
        self._shared_base = shared_base
        self.block = np.zeros(threads, np.uint32)  # %ctaid.x
        self._special = {
            "%tid.x": np.arange(threads, dtype=np.uint32),
            "%ntid.x": np.full(threads, threads, np.uint32),
            "%ctaid.x": self.block,
        }

    def _array(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            declared = self._declared[name[1:].rstrip("0123456789")]
            self._arrays[name] = np.zeros(self.threads, TYPES[declared])
        return self._arrays[name]

    def source(self, operand: str, kind: str) -> np.ndarray:
        """What `operand`, a register or a constant, holds when it is read as `kind`."""
        wanted = np.dtype(TYPES[kind])
        if operand.startswith("%"):
            array = self._special.get(operand)
            return _viewed(self._array(operand) if array is None else array, wanted)
        if operand.startswith("0f"):
            value = np.frombuffer(bytes.fromhex(operand[2:])[::-1], np.float32)
            return np.repeat(value, self.threads).view(wanted)
        if wanted == np.bool_:
            return np.full(self.threads, operand != "0")
        number = self._shared_base if operand == "bytes" else int(operand, 0)
        unsigned = np.dtype(f"u{wanted.itemsize}")
        return np.full(self.threads, number & (2 ** (8 * wanted.itemsize) - 1), unsigned).view(
            wanted
        )

    def target(self, name: str, kind: str) -> np.ndarray:
        """Where a result of type `kind` goes; a wider register takes it extended by its sign."""
        array, given = self._array(name), np.dtype(TYPES[kind])
        if array.dtype.itemsize == given.itemsize or given == np.bool_:
            return array.view(given)
        return array.view(f"{'i' if given.kind == 'i' else 'u'}{array.dtype.itemsize}")


def _viewed(array: np.ndarray, wanted: np.dtype) -> np.ndarray:
    if array.dtype == np.bool_:
        return array
    viewed = array.view(wanted)
    return viewed[:: array.dtype.itemsize // wanted.itemsize]  # the low bits of a wider register
