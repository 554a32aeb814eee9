"""What a layer rounds its input to."""

from __future__ import annotations

from torch import Tensor

from kernels import QuantizedLinear, ops


def rounded_input(layer: QuantizedLinear, x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes `[..., K]` (int8) and per-token scales `[..., 1]` of the rotated and smoothed input."""
    return ops.quantize_rows(
        x.contiguous(),
        bits=layer.format.activation_bits,
        signs=layer.signs,
        smoothing=layer.smoothing,
        clip=layer.activation_clip,
    )
