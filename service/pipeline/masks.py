"""Users' masks where the network ran on a smaller grid than theirs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def on_grid(keep: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The user's masks [S, H, W] on the grid that the network ran on, which may be smaller."""
    if keep.shape[1:] == size:
        return keep
    larger = torch.from_numpy(np.array(keep)).float()[:, None]
    resized = torch.nn.functional.interpolate(larger, size=size, mode="nearest-exact")
    return resized[:, 0].bool().numpy()
