"""The number formats: to how many bits weights and activations are rounded, how weights are stored.

Bit widths are stated here and nowhere else. They are read by the definition of the arithmetic and
the packing (`kernels.reference`), the operators' checks, the layers, the schemes of recipes and
artifacts, and the native code, whose compiler is given `DEFINITIONS`.

Codes of b bits are whole numbers in [-2^(b-1), 2^(b-1) - 1]; a scale maps the extreme value to
`largest_code(b)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

BYTE_BITS = 8
WHOLE, PACKED = 1, 2  # codes to a byte: the two ways to store a weight
PACKED_BITS = BYTE_BITS // PACKED
FLOAT_ACTIVATIONS = 16  # activation bits of a format that leaves activations in float
ATTENTION_BITS = 8  # of queries, keys and values; attention weights take the codes from 0 on
FLOAT_WEIGHT_BITS = 8  # of weights that are multiplied in float, on disk and in memory


def largest_code(bits: int) -> int:
    """The largest code of a signed `bits`-bit integer: 7 for 4 bits, 127 for 8."""
    return 2 ** (bits - 1) - 1


@dataclass(frozen=True)
class NumberFormat:
    """How a layer's weight and input are rounded, and how many codes of the weight share a byte.

    `name` is what recipes, manifests and messages call it: their "scheme". A weight of fewer bits
    than its storage has room for is multiplied like any other in that storage.
    """

    name: str
    weight_bits: int
    activation_bits: int
    codes_to_a_byte: int

    @property
    def largest_weight_code(self) -> int:
        """The code of the largest weight of an output channel."""
        return largest_code(self.weight_bits)

    @property
    def packed(self) -> bool:
        """Whether codes of the weight share a byte."""
        return self.codes_to_a_byte > 1

    @property
    def stored_bits(self) -> int:
        """What storage has for a code of the weight; kernels are chosen by it."""
        return BYTE_BITS // self.codes_to_a_byte

    @property
    def rounds_activations(self) -> bool:
        """Whether the product is one of whole numbers; else activations stay in float."""
        return self.activation_bits != FLOAT_ACTIVATIONS


FORMATS: dict[str, NumberFormat] = {
    number_format.name: number_format
    for number_format in (
        NumberFormat("w8a8", 8, 8, WHOLE),
        NumberFormat("w4a8", 4, 8, PACKED),  # for layers that cannot bear 4-bit activations
        NumberFormat("w4a4", 4, 4, PACKED),
        NumberFormat("w4a16", 4, FLOAT_ACTIVATIONS, PACKED),  # saves memory only
        NumberFormat("w3a4", 3, 4, PACKED),
        NumberFormat("w2a4", 2, 4, PACKED),
    )
}
"""By name. What a layer stores serves every format with the same weight: another activation width
is another format for the same tensors."""

WIDE_BITS = 8  # of activations, where an artifact offers more than its formats name


def with_wide_activations(known: NumberFormat) -> NumberFormat | None:
    """The format of the same stored weight with `WIDE_BITS` activations; None if `known` has these
    already, leaves activations in float, or has no such sibling."""
    if known.activation_bits >= WIDE_BITS:
        return None
    alike = (known.weight_bits, WIDE_BITS, known.codes_to_a_byte)
    for other in FORMATS.values():
        if (other.weight_bits, other.activation_bits, other.codes_to_a_byte) == alike:
            return other
    return None


STORED_BITS = tuple(sorted({known.stored_bits for known in FORMATS.values()}))
"""What a code of a weight may have in storage."""

_ROUNDED = [known for known in FORMATS.values() if known.rounds_activations]
ROUNDED_BITS = tuple(sorted({known.activation_bits for known in _ROUNDED}))
"""What a token may be rounded to."""

PRODUCTS = tuple(sorted({(known.activation_bits, known.stored_bits) for known in _ROUNDED}))
"""Bits of activations and of stored weights that are multiplied as whole numbers."""

_LARGEST = {
    "PACKED": largest_code(PACKED_BITS),
    "WHOLE": largest_code(BYTE_BITS),
    "ATTENTION": largest_code(ATTENTION_BITS),
}
DEFINITIONS = (
    f"-DQUANTVGGT_CODES_TO_A_BYTE={PACKED}",
    f"-DQUANTVGGT_ATTENTION_BITS={ATTENTION_BITS}",
    *(f"-DQUANTVGGT_LARGEST_{name}_CODE={value}" for name, value in _LARGEST.items()),
    f"-DQUANTVGGT_LOG2_LARGEST_ATTENTION_CODE={math.log2(_LARGEST['ATTENTION']):.9f}f",
)
"""Arguments of a C++ or CUDA compiler; `formats.h` gives these numbers their names there."""
