"""Fixed sine and cosine maps that tell the heads where on the picture they are."""

from __future__ import annotations

import torch
from torch import Tensor


def view_grid(width: int, height: int, aspect: float, device: torch.device | None = None) -> Tensor:
    """Pixel centres `[height, width, 2]` as (x, y) on a rectangle of the given aspect (W / H) and half-diagonal 1."""
    half_diagonal = (aspect**2 + 1) ** 0.5
    span_x, span_y = aspect / half_diagonal, 1 / half_diagonal
    x = torch.linspace(-span_x * (width - 1) / width, span_x * (width - 1) / width, width, device=device)
    y = torch.linspace(-span_y * (height - 1) / height, span_y * (height - 1) / height, height, device=device)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def sincos(positions: Tensor, channels: int, base: float) -> Tensor:
    """Sines then cosines of scalar `positions` `[...]` at `channels / 2` frequencies: `[..., channels]`, float32."""
    half = channels // 2
    exponents = torch.arange(half, dtype=torch.float64, device=positions.device) / half
    angles = positions.double()[..., None] * base**-exponents
    return torch.cat((angles.sin(), angles.cos()), dim=-1).float()


def sincos_grid(grid: Tensor, channels: int, base: float = 100.0) -> Tensor:
    """Code of a grid `[H, W, 2]`: first half of the channels from x, second from y. Returns `[H, W, channels]`."""
    if channels % 4:
        raise ValueError(f"a two-dimensional sine code needs a multiple of 4 channels, got {channels}")
    return torch.cat([sincos(grid[..., axis], channels // 2, base) for axis in (0, 1)], dim=-1)


def add_view_position(features: Tensor, aspect: float, gain: float = 0.1) -> Tensor:
    """Adds the picture position to a feature map `[N, E, h, w]` of an image with the given aspect (W / H)."""
    _, channels, height, width = features.shape
    code = sincos_grid(view_grid(width, height, aspect, features.device), channels)
    return features + gain * code.permute(2, 0, 1).to(features.dtype)
