"""How much of the range to give up for a finer step: closed-form searches for the scale of weights
and activations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.reference import quantize_activation, quantize_weight

RATIOS = (1.0, 0.96, 0.92, 0.88, 0.84, 0.80, 0.76, 0.72, 0.68, 0.64, 0.60)


def search_weight_clip(
    weight: Tensor, bits: int, importance: Tensor, ratios: Sequence[float] = RATIOS
) -> Tensor:
    """Clip `[N, 2]` of each row of `weight` `[N, K]`: the share of its extremes that loses least.

    The loss of a row is its squared error weighed by `importance` `[K]`, the mean squares of the
    inputs.
    """
    best = torch.full((len(weight),), torch.inf, dtype=weight.dtype, device=weight.device)
    chosen = torch.ones_like(best)
    for ratio in ratios:
        clip = torch.full((len(weight), 2), ratio, dtype=weight.dtype, device=weight.device)
        codes, scale = quantize_weight(weight, bits, clip)
        loss = ((codes * scale[:, None] - weight).square() * importance).sum(dim=1)
        better = loss < best
        best, chosen = torch.where(better, loss, best), torch.where(better, ratio, chosen)
    return torch.stack((chosen, chosen), dim=1)


def search_activation_clip(
    rows: Tensor, weight: Tensor, bits: int, ratios: Sequence[float] = RATIOS
) -> Tensor:
    """Clip `[2]` of a layer's inputs: the share of each token's extremes that moves the layer's
    output least.

    `rows` `[T, K]` are transformed inputs, `weight` `[N, K]` the transformed weight.
    """
    losses = []
    for ratio in ratios:
        clip = torch.full((2,), ratio, dtype=rows.dtype, device=rows.device)
        codes, scale = quantize_activation(rows, bits, clip)
        losses.append(((codes * scale - rows) @ weight.T).square().sum())
    ratio = ratios[int(torch.stack(losses).argmin())]
    return torch.full((2,), ratio, dtype=torch.float32, device=rows.device)
