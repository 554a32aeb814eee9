"""Instructions of a whole warp or warpgroup: shuffles, matrix loads, matrix products.

PTX ISA, "Warp-level Matrix Instructions" (fragments of mma.m16n8k32 and mma.m16n8k64,
ldmatrix), "Asynchronous Warpgroup Level Matrix Instructions" (wgmma, matrix descriptor, 128-byte
swizzle) and "Data Movement and Conversion Instructions: shfl.sync".

Products are exact: they run in float64, whose 53 bits hold every sum of 64 products of two bytes.
"""

from __future__ import annotations

import numpy as np

from tests.kernels.cuda.ptx.fault import Fault
from tests.kernels.cuda.ptx.shared import WARP

WARPGROUP = 128
_ROWS = 8  # of the matrices that fragments are made of


def shuffled(values: np.ndarray, mode: str, argument: np.ndarray, clamp: np.ndarray) -> np.ndarray:
    """shfl.sync on whole warps: each lane's value of the lane that `argument` leads it to."""
    value, by = values.reshape(-1, WARP), argument.reshape(-1, WARP).astype(np.int64)
    lane = np.arange(WARP)
    segment = clamp.reshape(-1, WARP).astype(np.int64) >> 8 & 31
    last = (lane & segment) | (clamp.reshape(-1, WARP).astype(np.int64) & 31 & ~segment)
    source = {
        "bfly": lane ^ by,
        "idx": (lane & segment) | (by & ~segment),
        "down": lane + by,
        "up": lane - by,
    }[mode]
    if mode == "up":
        source = np.where(source < (lane & segment), lane, source)
    else:
        source = np.where(source > last, lane, source)
    return np.take_along_axis(value, source, axis=1).reshape(-1)


def load_matrices(rows: np.ndarray) -> np.ndarray:
    """ldmatrix.x4: uint8 `[warps * 32, 16]`, the row whose address each lane gave, to words
    `[4, warps * 32]`."""
    words = np.ascontiguousarray(rows).view(np.uint32).reshape(-1, 4, _ROWS, 4)
    return words.transpose(1, 0, 2, 3).reshape(4, -1)


def _codes(words: np.ndarray, bits: int) -> np.ndarray:
    """Codes `[..., 32 / bits]` of words, as float64."""
    if bits == 8:
        return np.ascontiguousarray(words)[..., None].view(np.int8).astype(np.float64)
    nibbles = words[..., None] >> np.arange(0, 32, 4, dtype=np.uint32) & np.uint32(15)
    return nibbles.astype(np.float64) - 16 * (nibbles > 7)


def _left_matrix(words: np.ndarray, bits: int) -> np.ndarray:
    """`[warps, 16, K]` of four words `[4, warps * 32]`: rows by groups of lanes, words 1 and 3 of
    the lower eight rows, words 2 and 3 of the second half of K."""
    codes = _codes(words, bits).reshape(2, 2, -1, _ROWS, 4, 32 // bits)  # half, row half, warp, ...
    ordered = codes.transpose(2, 1, 3, 0, 4, 5)
    return ordered.reshape(ordered.shape[0], 16, -1)


def multiplied(left: np.ndarray, right: np.ndarray, bits: int) -> np.ndarray:
    """mma.m16n8: what is added to the accumulators `[4, warps * 32]`, as float64; `left` has four
    words, `right` two."""
    a = _left_matrix(left, bits)
    b = _codes(right, bits).reshape(2, -1, _ROWS, 4, 32 // bits).transpose(1, 2, 0, 3, 4)
    products = a @ b.reshape(b.shape[0], _ROWS, -1).transpose(0, 2, 1)
    return _accumulators(products)


def multiplied_by_warpgroup(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """wgmma.m64nNk32 with the left operand in registers: `left` words `[4, 128]`, `right` int8
    `[N, 32]`; to accumulators `[N / 2, 128]`."""
    products = _left_matrix(left, 8) @ right.astype(np.float64).T
    return _accumulators(products)


def _accumulators(products: np.ndarray) -> np.ndarray:
    """Sums `[warps, 16, N]` to `[N / 2, warps * 32]`: lane l holds rows l / 4 and l / 4 + 8,
    columns 2 (l % 4) and the next, of every eight columns."""
    warps, _, columns = products.shape
    split = products.reshape(warps, 2, _ROWS, columns // 8, 4, 2)
    return split.transpose(3, 1, 5, 0, 2, 4).reshape(columns // 2, -1)


def described_rows(descriptor: int, rows: int) -> np.ndarray:
    """Addresses `[rows, 2]` of the chunks of 16 bytes that a matrix descriptor stands for: 32 bytes
    of each row, K-major, in the 128-byte swizzle. Raises Fault for another layout."""
    start, group = (descriptor & 0x3FFF) << 4, (descriptor >> 32 & 0x3FFF) << 4
    if descriptor >> 62 != 1 or descriptor >> 46 & 7 or descriptor >> 49 & 0x1FFF:
        raise Fault(f"wgmma: descriptor {descriptor:#x} is not of the 128-byte swizzle")
    row = np.arange(rows)[:, None]
    address = start + row // 8 * group + row % 8 * 128 + np.arange(0, 32, 16)
    return address ^ (address >> 7 & 7) << 4
