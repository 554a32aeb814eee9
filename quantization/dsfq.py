"""Dual-smoothed fine-grained quantisation: the channel scale that is applied after the rotation
(QuantVGGT, 2025)."""

from __future__ import annotations

from torch import Tensor

_SMALLEST_SCALE = 1e-5


def update_activation_maximum(
    running: Tensor | None, rotated: Tensor, momentum: float = 0.95
) -> Tensor:
    """Running per-channel maximum `[K]` of rotated activations `[batch, tokens, K]`.

    Each call contributes the maximum over tokens, averaged over the leading axis; the first call
    sets the statistic.
    """
    maximum = rotated.abs().amax(dim=-2).flatten(0, -2).mean(dim=0)
    return maximum if running is None else momentum * running + (1 - momentum) * maximum


def channel_scale(activation_maximum: Tensor, weight_maximum: Tensor, alpha: float = 0.5) -> Tensor:
    """Smoothing `[K]`: activation_maximum^alpha / weight_maximum^(1 - alpha), bounded below.

    A channel that no weight reads may have any scale; its weight's maximum counts as 1.
    """
    weight_maximum = weight_maximum.where(weight_maximum > 0, 1.0)
    return (activation_maximum**alpha / weight_maximum ** (1 - alpha)).clamp(min=_SMALLEST_SCALE)
