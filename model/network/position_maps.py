"""Fixed sine and cosine maps that tell the heads where on the picture they are."""

from __future__ import annotations

import torch
from torch import Tensor


def view_axes(
    width: int, height: int, aspect: float, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Pixel centres x `[width]` and y `[height]` on a rectangle of the given aspect (W / H) and
    half-diagonal 1."""
    half_diagonal = (aspect**2 + 1) ** 0.5
    span_x, span_y = aspect / half_diagonal, 1 / half_diagonal
    x = torch.linspace(
        -span_x * (width - 1) / width, span_x * (width - 1) / width, width, device=device
    )
    y = torch.linspace(
        -span_y * (height - 1) / height, span_y * (height - 1) / height, height, device=device
    )
    return x, y


def view_grid(width: int, height: int, aspect: float, device: torch.device | None = None) -> Tensor:
    """The pixel centres of `view_axes` as a grid `[height, width, 2]` of (x, y)."""
    return torch.stack(
        torch.meshgrid(*view_axes(width, height, aspect, device), indexing="xy"), dim=-1
    )


def sincos(positions: Tensor, channels: int, base: float) -> Tensor:
    """Sines then cosines of scalar `positions` `[...]` at `channels / 2` frequencies: `[...,
    channels]`, float32."""
    half = channels // 2
    exponents = torch.arange(half, dtype=torch.float64, device=positions.device) / half
    angles = positions.double()[..., None] * base**-exponents
    return torch.cat((angles.sin(), angles.cos()), dim=-1).float()


def add_view_position_(
    features: Tensor, aspect: float, gain: float = 0.1, base: float = 100.0
) -> Tensor:
    """Adds `gain` times the code of `view_grid` to a feature map `[N, E, h, w]` of an image of this
    aspect (W / H).

    In place: at full resolution the map is the largest tensor of a dense head. A code depends on
    one axis only, so it is computed once per column and once per row.
    """
    _, channels, height, width = features.shape
    if channels % 4:
        raise ValueError(
            f"a two-dimensional sine code needs a multiple of 4 channels, got {channels}"
        )
    x, y = view_axes(width, height, aspect, features.device)
    half = channels // 2  # slices rather than a split, through whose views no gradient passes
    features[:, :half] += gain * sincos(x, half, base).to(features.dtype).T[:, None, :]
    features[:, half:] += gain * sincos(y, half, base).to(features.dtype).T[:, :, None]
    return features
