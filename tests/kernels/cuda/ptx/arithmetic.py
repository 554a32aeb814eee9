"""Instructions that compute one thread's registers from its own registers.

PTX ISA, chapter "Instruction Set": "Integer Arithmetic Instructions", "Floating-Point
Instructions", "Comparison and Selection Instructions", "Logic and Shift Instructions", "Data
Movement and Conversion Instructions". Denormals are kept, as ptxas does without `--ftz`. The
approximate functions (`ex2.approx`, `rcp.approx`) are computed to the nearest float32, closer than
hardware promises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.kernels.cuda.ptx.registers import TYPES

Array = Any  # np.ndarray, whose element types NumPy's stubs do not follow through views


@dataclass(frozen=True)
class Arithmetic:
    """`compute` takes one array for each of `sources`, of that type, and gives one of type
    `result`."""

    result: str
    sources: tuple[str, ...]
    compute: Callable[..., Array]


def arithmetic(parts: tuple[str, ...]) -> Arithmetic | None:
    """What an opcode computes; None where it is no instruction of this kind."""
    name, kind = parts[0], parts[-1]
    if name in _SIMPLE and not _OTHER_ROUNDING.intersection(parts[1:-1]):
        count, compute = _SIMPLE[name]
        return Arithmetic(kind, (kind,) * count, compute)
    family = _FAMILIES.get(name)
    return family(parts) if family else None


def _quotient(x: Array, y: Array) -> Array:
    if x.dtype.kind == "f":
        return x / y
    whole = np.abs(x.astype(object)) // np.abs(np.where(y == 0, 1, y).astype(object))
    return np.where((x < 0) != (y < 0), -whole, whole).astype(x.dtype)  # towards zero


def _fused(parts: tuple[str, ...]) -> Arithmetic | None:
    """fma: x y + z, rounded once but for ties that 64 bits of significand do not see."""
    kind, rounding = parts[-1], parts[1]
    if parts[2:-1] or rounding not in ("rn", "rm"):
        return None

    def fused(x: Array, y: Array, z: Array) -> Array:
        exact = x.astype(np.longdouble) * y.astype(np.longdouble) + z.astype(np.longdouble)
        nearest = exact.astype(np.float32)
        if rounding == "rn":
            return nearest
        return np.where(nearest > exact, np.nextafter(nearest, np.float32(-np.inf)), nearest)

    return Arithmetic(kind, (kind,) * 3, fused)


def _not(x: Array) -> Array:
    return np.logical_not(x) if x.dtype == np.bool_ else ~x


def _minimum(x: Array, y: Array) -> Array:
    return np.fmin(x, y) if x.dtype.kind == "f" else np.minimum(x, y)


def _maximum(x: Array, y: Array) -> Array:
    return np.fmax(x, y) if x.dtype.kind == "f" else np.maximum(x, y)


_SIMPLE: dict[str, tuple[int, Callable[..., Array]]] = {
    **{"add": (2, np.add), "sub": (2, np.subtract), "min": (2, _minimum), "max": (2, _maximum)},
    **{"and": (2, np.bitwise_and), "or": (2, np.bitwise_or), "xor": (2, np.bitwise_xor)},
    **{"not": (1, _not), "neg": (1, np.negative), "abs": (1, np.abs), "sqrt": (1, np.sqrt)},
    **{"div": (2, _quotient), "rem": (2, np.fmod)},
    **{"ex2": (1, np.exp2), "rcp": (1, np.reciprocal)},
    "copysign": (2, lambda sign, magnitude: np.copysign(magnitude, sign)),
    "mov": (1, lambda x: x),
}


_OTHER_ROUNDING = frozenset({"rm", "rp", "rz", "sat"})  # than what `_SIMPLE` does


def _product(parts: tuple[str, ...]) -> Arithmetic:
    """mul and mad: the low half, or the whole of twice the width."""
    kind = parts[-1]
    if parts[1] == "wide":
        wide = f"{kind[0]}{2 * int(kind[1:])}"
        element = TYPES[wide]
        if parts[0] == "mul":
            return Arithmetic(
                wide, (kind, kind), lambda x, y: x.astype(element) * y.astype(element)
            )
        return Arithmetic(
            wide, (kind, kind, wide), lambda x, y, z: x.astype(element) * y.astype(element) + z
        )
    if parts[1] == "hi":
        bits = int(kind[1:])
        return Arithmetic(
            kind,
            (kind, kind),
            lambda x, y: ((x.astype(object) * y.astype(object)) >> bits).astype(TYPES[kind]),
        )
    if parts[0] == "mul":
        return Arithmetic(kind, (kind, kind), np.multiply)
    return Arithmetic(kind, (kind, kind, kind), lambda x, y, z: x * y + z)


def _shift(parts: tuple[str, ...]) -> Arithmetic:
    """shl and shr; amounts beyond the width give zero, or the sign."""
    kind, bits = parts[-1], int(parts[-1][1:])

    def shifted(x: Array, amount: Array) -> Array:
        by = np.minimum(amount, bits - 1).astype(x.dtype)
        if parts[0] == "shr" and kind[0] == "s":
            return x >> by
        result = x << by if parts[0] == "shl" else x >> by
        return np.where(amount >= bits, 0, result).astype(x.dtype)

    return Arithmetic(kind, (kind, "u32"), shifted)


_UNORDERED = ("equ", "neu", "ltu", "leu", "gtu", "geu")  # true where an operand is no number
_COMPARISONS: dict[str, Callable[..., Array]] = {
    **{"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal},
    **{"gt": np.greater, "ge": np.greater_equal},
}


def _comparison(parts: tuple[str, ...]) -> Arithmetic:
    kind, compare = parts[-1], _COMPARISONS[parts[1][:2]]
    if parts[1] not in _UNORDERED:
        return Arithmetic("pred", (kind, kind), compare)
    return Arithmetic("pred", (kind, kind), lambda x, y: compare(x, y) | np.isnan(x) | np.isnan(y))


def _selection(parts: tuple[str, ...]) -> Arithmetic:
    kind = parts[-1]
    return Arithmetic(kind, (kind, kind, "pred"), lambda x, y, first: np.where(first, x, y))


def _bit_field(parts: tuple[str, ...]) -> Arithmetic:
    """bfi: the low bits of the first operand into the second."""

    def inserted(x: Array, y: Array, position: Array, length: Array) -> Array:
        wide = np.uint64
        mask = (((wide(1) << length.astype(wide)) - wide(1)) << position.astype(wide)).astype(
            np.uint32
        )
        return (y & ~mask) | ((x.astype(wide) << position.astype(wide)).astype(np.uint32) & mask)

    return Arithmetic("b32", ("b32", "b32", "u32", "u32"), inserted)


def _set_bits(parts: tuple[str, ...]) -> Arithmetic:
    """popc: how many bits are 1."""

    def counted(x: Array) -> Array:
        octets = np.ascontiguousarray(x).view(np.uint8).reshape(len(x), -1)
        return np.unpackbits(octets, axis=1).sum(axis=1).astype(np.uint32)

    return Arithmetic("u32", (parts[-1],), counted)


def _permutation(parts: tuple[str, ...]) -> Arithmetic:
    """prmt: each byte of the result is one of eight, or its sign."""

    def permuted(x: Array, y: Array, selector: Array) -> Array:
        both = np.stack([x, y], axis=1).view(np.uint8)
        chosen = (selector[:, None] >> np.arange(0, 16, 4, dtype=np.uint32)) & np.uint32(15)
        picked = np.take_along_axis(both, (chosen & 7).astype(np.int64), axis=1)
        signs = np.where(picked & 128, 255, 0).astype(np.uint8)
        return np.where(chosen & 8, signs, picked).view(np.uint32)[:, 0]

    return Arithmetic("b32", ("b32", "b32", "b32"), permuted)


def _lookup(parts: tuple[str, ...]) -> Arithmetic:
    """lop3: any function of three bits, by its table of eight."""

    def looked_up(x: Array, y: Array, z: Array, table: Array) -> Array:
        result = np.zeros_like(x)
        for row in range(8):
            chosen = (x if row & 4 else ~x) & (y if row & 2 else ~y) & (z if row & 1 else ~z)
            result |= np.where(table >> np.uint32(row) & np.uint32(1), chosen, 0).astype(x.dtype)
        return result

    return Arithmetic("b32", ("b32", "b32", "b32", "u32"), looked_up)


def _to_bfloat16(x: Array) -> Array:
    bits = x.view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)
    return np.where(np.isnan(x), 0x7FFF, rounded).astype(np.uint16)


def _to_integer(x: Array, element: type[np.generic], towards_zero: bool) -> Array:
    limits = np.iinfo(element)  # type: ignore[type-var]
    whole = np.trunc(x) if towards_zero else np.rint(x)
    whole = np.clip(whole.astype(np.float64), limits.min, limits.max)
    return np.where(np.isnan(x), 0, whole).astype(element)


def _conversion(parts: tuple[str, ...]) -> Arithmetic:
    given, taken = parts[-2], parts[-1]
    element = TYPES[given]
    if parts[1:] == ("sat", "f32", "f32"):  # to 0 to 1, and 0 where it is no number
        return Arithmetic(given, (taken,), lambda x: np.fmin(np.fmax(x, element(0)), element(1)))

    def converted(x: Array) -> Array:
        if taken == "bf16":
            x = (x.astype(np.uint32) << np.uint32(16)).view(np.float32)
        if given == "bf16":
            return _to_bfloat16(x)
        if taken == "f32" and given[0] in "su":
            return _to_integer(x, element, towards_zero="rzi" in parts)
        if "rni" in parts:
            return np.rint(x).astype(element)
        if "rzi" in parts:
            return np.trunc(x).astype(element)
        return x.astype(element)

    return Arithmetic(given, (taken,), converted)


_FAMILIES: dict[str, Callable[[tuple[str, ...]], Arithmetic | None]] = {
    **{"mul": _product, "mad": _product, "shl": _shift, "shr": _shift},
    **{"setp": _comparison, "selp": _selection, "cvt": _conversion},
    "fma": _fused,
    **{"bfi": _bit_field, "prmt": _permutation, "lop3": _lookup, "popc": _set_bits},
    "cvta": lambda parts: Arithmetic("u64", ("u64",), lambda x: x),
}
