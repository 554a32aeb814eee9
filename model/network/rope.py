"""Two-dimensional rotary position embedding (Su et al., "RoFormer", 2021, applied to rows and
columns)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rotation:
    """Cosines and sines for N tokens and heads of width D: both `[batch or 1, 1, N, D]`, float32.

    More than N tokens are several frames in a row: positions begin anew after every N.
    """

    cos: Tensor
    sin: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """Rotates `x` `[batch, heads, frames x N, D]`: each half of D is a pair of contiguous
        quarters turned by its angle."""
        frames = x.unflatten(2, (-1, self.positions))
        y1, y2, x1, x2 = frames.split(x.shape[-1] // 4, dim=-1)
        turned = torch.cat((-y2, y1, -x2, x1), dim=-1)
        cos, sin = self.cos[:, :, None], self.sin[:, :, None]
        return (frames * cos + turned * sin).flatten(2, 3).to(x.dtype)

    @property
    def positions(self) -> int:
        """N."""
        return self.cos.shape[2]

    def at(self, tokens: Tensor) -> Rotation:
        """That of some of the tokens of all frames, by index."""
        places = tokens % self.positions
        return Rotation(self.cos[:, :, places], self.sin[:, :, places])


def rotation(
    positions: Tensor, head_dim: int, frequency: float = 100.0, dtype: torch.dtype = torch.float32
) -> Rotation:
    """Angles for integer `positions` `[batch or 1, N, 2]` as (row, column): the first half of a
    head turns by the row.

    `head_dim` must be a multiple of 4. Frequencies are `frequency^(-2j/d)` with d = head_dim / 2.
    """
    if head_dim % 4:
        raise ValueError(
            f"head width {head_dim} is not a multiple of 4, which rotary positions in two "
            "dimensions need"
        )
    half = head_dim // 2
    exponents = torch.arange(0, half, 2, device=positions.device, dtype=torch.float32) / half
    angles = positions.float()[..., None] * frequency**-exponents  # [batch, N, 2, half / 2]
    angles = torch.cat((angles, angles), dim=-1).flatten(-2)[:, None]  # [batch, 1, N, head_dim]
    return Rotation(angles.cos().to(dtype), angles.sin().to(dtype))


def patch_positions(
    rows: int, columns: int, num_special: int, device: torch.device | None = None
) -> Tensor:
    """Positions `[1, num_special + rows * columns, 2]`: special tokens at (0, 0), patches from (1,
    1), row-major."""
    grid = torch.cartesian_prod(
        torch.arange(1, rows + 1, device=device), torch.arange(1, columns + 1, device=device)
    )
    special = grid.new_zeros(num_special, 2)
    return torch.cat((special, grid))[None]
