"""What a network for single pictures says of the sky, and how far away the sky is put."""

from __future__ import annotations

import numpy as np
from torch import Tensor

_SKY = 0.3  # from this value of the sky map on a pixel is sky
_LEAST_PIXELS = 10  # of sky and of the rest, more of each, for the sky to be moved
_FAR = 0.99  # quantile of the other pixels' depth


def is_sky(sky: Tensor) -> Tensor:
    """Which pixels are sky, bool, from a sky map."""
    return sky >= _SKY


def far_depth(depth: Tensor) -> float:
    """The depth that the sky is given, from the depth `[N]` of all other pixels."""
    return float(np.quantile(depth.numpy(), _FAR))


def with_far_sky(depth: Tensor, sky: Tensor) -> Tensor:
    """Depth with the sky as far away as the farthest other pixels of all frames; both `[...]` on
    the CPU.

    As it comes where there is next to no sky, or little else.
    """
    where = is_sky(sky)
    if where.sum() <= _LEAST_PIXELS or (~where).sum() <= _LEAST_PIXELS:
        return depth
    return depth.masked_fill(where, far_depth(depth[~where]))
