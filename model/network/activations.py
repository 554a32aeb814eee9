"""Output activations of the dense heads."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def inverse_log(x: Tensor) -> Tensor:
    """sign(x) * (exp(|x|) - 1): unbounded in both directions, fine near zero."""
    return torch.sign(x) * torch.expm1(x.abs())


def _unit_norm(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def _norm_exp(x: Tensor) -> Tensor:
    distance = x.norm(dim=-1, keepdim=True)
    return x / distance.clamp(min=1e-8) * torch.expm1(distance)


def _xy_inverse_log(x: Tensor) -> Tensor:
    xy, z = x.split((2, 1), dim=-1)
    z = inverse_log(z)
    return torch.cat((xy * z, z), dim=-1)


VALUE_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "inv_log": inverse_log,
    "xy_inv_log": _xy_inverse_log,
    "norm": _unit_norm,
    "norm_exp": _norm_exp,
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "linear": lambda x: x,
}

CONFIDENCE_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "expp1": lambda x: 1 + x.exp(),
    "expp0": torch.exp,
    "sigmoid": torch.sigmoid,
}


def activate_dense(raw: Tensor, activation: str, conf_activation: str) -> tuple[Tensor, Tensor]:
    """Splits head output `[N, K, H, W]` into values `[N, H, W, K - 1]` and confidence `[N, H, W]`,
    both activated."""
    channels_last = raw.movedim(1, -1)
    values, confidence = channels_last[..., :-1], channels_last[..., -1]
    return VALUE_ACTIVATIONS[activation](values), CONFIDENCE_ACTIVATIONS[conf_activation](
        confidence
    )
