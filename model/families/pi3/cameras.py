"""What pi3's predictions say of cameras."""

from __future__ import annotations

import torch
from torch import Tensor


def intrinsics_of(points: Tensor, centred: bool = True) -> Tensor:
    """Pinhole matrices `[S, 3, 3]` (pixels, centres counted from 0) that best explain points
    `[S, H, W, 3]` in the axes of the cameras that see them.

    Least squares over all pixels. The principal point is the image centre, or with `centred` false
    the best one.
    """
    height, width = points.shape[1:3]
    matrix = points.new_zeros(len(points), 3, 3)
    matrix[:, 2, 2] = 1
    for axis, side in ((0, width), (1, height)):
        place = torch.arange(side, dtype=points.dtype, device=points.device) - (side - 1) / 2
        place = place if axis == 0 else place[:, None]
        ratio = points[..., axis] / points[..., 2]
        offset = torch.zeros_like(matrix[:, 0, 0]) if centred else ratio.mean((1, 2))
        x = ratio - offset[:, None, None]
        focal = (x * place).sum((1, 2)) / x.square().sum((1, 2))
        matrix[:, axis, axis] = focal
        matrix[:, axis, 2] = (side - 1) / 2 - focal * offset
    return matrix
