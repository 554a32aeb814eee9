"""How heavy the tails of a layer's inputs are: special tokens against patch tokens, before and
after the transform."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import QuantizedLinear, reference

BIN_EDGES = tuple(0.25 * step for step in range(-12, 13))
"""Edges of the histogram: log2 of |x| / rms; the first and the last bin hold what lies beyond."""


@dataclass(frozen=True)
class Tail:
    """Of all elements of some tokens: the largest and the fourth moment, by the root mean square; a
    histogram.

    A normal distribution has a kurtosis of 3. `histogram` holds shares, one a bin of `BIN_EDGES`.
    """

    peak: float
    kurtosis: float
    histogram: tuple[float, ...]

    @classmethod
    def of(cls, values: Tensor) -> Tail:
        values = values.double().flatten()
        rms = values.square().mean().sqrt().clamp(min=1e-30)
        values = values / rms
        edges = torch.tensor(BIN_EDGES[1:-1], dtype=torch.float64, device=values.device)
        bins = torch.bucketize(values.abs().clamp(min=1e-30).log2(), edges)
        shares = torch.bincount(bins, minlength=len(BIN_EDGES) - 1) / values.numel()
        return cls(
            float(values.abs().max()),
            float(values.pow(4).mean()),
            tuple(round(float(s), 6) for s in shares),
        )


@dataclass(frozen=True)
class Outliers:
    """Tails of a layer's inputs as they come, and as they are rounded (rotated and smoothed)."""

    special: Tail
    patches: Tail
    special_transformed: Tail
    patches_transformed: Tail


def outliers(rows: Tensor, special: Tensor, layer: QuantizedLinear) -> Outliers:
    """Tails of inputs `rows` `[T, K]` of `layer`, of which `special` `[T]` (bool) are camera and
    register tokens."""
    transformed = reference.transform_activation(rows, layer.signs, layer.smoothing)
    return Outliers(
        Tail.of(rows[special]),
        Tail.of(rows[~special]),
        Tail.of(transformed[special]),
        Tail.of(transformed[~special]),
    )
