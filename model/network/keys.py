"""Which tokens attention over a scene looks at, where all of them would take too long.

Its time grows with queries times keys. Every token asks, and none is merged with another; but they
need not look at every token of every frame. Kept are all tokens of the first frame, in whose camera
the world stands, the special tokens of every frame, and of every later frame the patches on a grid
that moves from frame to frame, so that every spot of the picture is seen in some of them. What is
kept depends on the number of frames and their grid alone.

On synthetic walks of 32 views a quarter of the patches costs the demo network 1.6 points of AUC@30
(`python -m benchmarks.keys`, docs/accuracy.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

FACTORS = (1, 2, 4, 8, 16)
"""One patch of so many is kept."""
USUAL_BUDGET = 32 * (5 + 28 * 37)
"""Tokens to look at where nobody says how many: 32 whole frames of 518 x 392 pixels in VGGT-1B. Up
to there a smaller budget would save less than half of a pass."""

_FAR_APART = ((0, 0), (1, 1), (0, 1), (1, 0))  # the order in which a 2 x 2 cell is visited


@dataclass(frozen=True)
class KeyPattern:
    """What attention over a scene looks at: `kept` of `of` tokens, one patch of `factor` in all
    frames but the first."""

    factor: int
    kept: int
    of: int

    @property
    def share(self) -> float:
        """Of the pairs of a token that asks and one that is looked at: those that are left."""
        return self.kept / self.of

    @property
    def exact(self) -> bool:
        """Whether all tokens are looked at, which gives the network's own answer bit for bit."""
        return self.factor == 1

    def document(self) -> Mapping[str, float]:
        """Plain data for JSON."""
        return {
            "factor": self.factor,
            "kept": self.kept,
            "of": self.of,
            "share": round(self.share, 4),
        }


def pattern(frames: int, grid: tuple[int, int], special: int, budget: int | None) -> KeyPattern:
    """What is looked at in a scene of so many frames, each of `special` tokens and a grid of (rows,
    columns) patches, where about `budget` tokens may be; None: all.

    Depends on its arguments alone. Where no factor keeps so few tokens `kept` is larger than the
    budget. Raises ValueError for a budget below 1.
    """
    rows, columns = grid
    factor = 1 if budget is None else factor_within(budget, frames, rows, columns, special)
    kept = rows * columns + frames * special
    for phase in range(factor):
        alike = len(range(phase, frames, factor)) - (phase == 0)  # without the first frame
        kept += alike * int(kept_patches(factor, phase, rows, columns).sum())
    return KeyPattern(factor, kept, frames * (rows * columns + special))


def keys_of_images(
    images: Tensor, patch_size: int, special: int, budget: int | None
) -> Tensor | None:
    """Indices of what attention over the scene of images `[B, S, 3, H, W]` looks at, ascending, on
    their device; None: all tokens. See `pattern` for `special`, `budget` and errors."""
    frames = images.shape[1]
    rows, columns = images.shape[-2] // patch_size, images.shape[-1] // patch_size
    looked_at = pattern(frames, (rows, columns), special, budget)
    if looked_at.exact:
        return None
    return kept_tokens(looked_at.factor, frames, rows, columns, special).to(images.device)


def kept_patches(factor: int, frame: int, rows: int, columns: int) -> Tensor:
    """Which patches of a frame's grid are kept, `[rows, columns]`, bool: one in each cell of
    `factor` patches.

    Cells are two patches of a checkerboard, 2 x 2, 2 x 4 or 4 x 4 patches.
    """
    row, column = torch.arange(rows)[:, None], torch.arange(columns)
    if factor == 1:
        return torch.ones(rows, columns, dtype=torch.bool)
    if factor == 2:
        return (row + column + frame) % 2 == 0
    step = frame % factor
    (row_step, column_step), fine = _FAR_APART[step % 4], step // 4
    height, width, row_phase, column_phase = {
        4: (2, 2, row_step, column_step),
        8: (2, 4, row_step, 2 * column_step + fine),
        16: (
            4,
            4,
            2 * row_step + _FAR_APART[fine % 4][0],
            2 * column_step + _FAR_APART[fine % 4][1],
        ),
    }[factor]
    return (row % height == row_phase) & (column % width == column_phase)


def kept_tokens(factor: int, frames: int, rows: int, columns: int, special: int) -> Tensor:
    """Indices of the kept ones among the tokens of all frames, ascending: of each frame `special`
    tokens, then its patches, row-major."""
    whole = torch.ones(special + rows * columns, dtype=torch.bool)
    grids = [
        torch.cat((whole[:special], kept_patches(factor, frame, rows, columns).flatten()))
        for frame in range(1, frames)
    ]
    return torch.cat((whole, *grids)).nonzero()[:, 0]


def factor_within(budget: int, frames: int, rows: int, columns: int, special: int) -> int:
    """The least of `FACTORS` that keeps about `budget` tokens; the largest where none keeps so few.

    Raises ValueError for a budget below 1.
    """
    if budget < 1:
        raise ValueError(f"attention_keys is {budget}; expected at least 1")
    for factor in FACTORS:
        if kept_about(factor, frames, rows, columns, special) <= budget:
            return factor
    return FACTORS[-1]


def kept_about(factor: int, frames: int, rows: int, columns: int, special: int) -> float:
    """How many tokens of a scene are kept, but for the cells at the edges of an odd grid."""
    patches = rows * columns
    return special + patches + (frames - 1) * (special + patches / factor)
