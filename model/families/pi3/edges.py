"""Where pi3's points are a mixture of near and far: what its public code leaves out of clouds."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_JUMP = 0.03  # of a pixel's depth, between the nearest and the farthest in 3 x 3 pixels
_TURN = math.cos(math.radians(5))  # of two normals


def depth_edges(depth: Tensor, mask: Tensor) -> Tensor:
    """Which pixels lie where depth `[S, H, W]` jumps, bool; pixels that `mask` leaves out are not
    looked at."""
    far = _largest_around(depth.masked_fill(~mask, -torch.inf))
    near = -_largest_around((-depth).masked_fill(~mask, -torch.inf))
    return (far - near) / depth > _JUMP


def edges(points: Tensor, mask: Tensor) -> Tensor:
    """Which pixels lie where both depth jumps and the surface turns, bool `[S, H, W]`, from points
    `[S, H, W, 3]` in the axes of the cameras that see them.

    A floor seen at a low angle has large jumps of depth and is no edge. A pixel that has no normal,
    for `mask` leaves out itself or too many neighbours, is none either.
    """
    # a frame at a time: all normals of a long scene would take more memory than its pass
    found = [_turns(*frame) for frame in zip(points[:, None], mask[:, None], strict=True)]
    return depth_edges(points[..., 2], mask) & torch.cat(found)


def _turns(points: Tensor, mask: Tensor) -> Tensor:
    normals, known = _normals(points, mask)
    least = torch.ones_like(normals[..., 0])
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            both = known & _neighbour(known[..., None], row, column)[..., 0]
            cosine = (normals * _neighbour(normals, row, column)).sum(-1)
            least = torch.where(both, least.minimum(cosine), least)
    return known & (-_largest_around(-least) < _TURN)


def _normals(points: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Unit normals `[S, H, W, 3]`, and where there are any: each is the mean of those of the
    triangles that a pixel makes with two of its four neighbours."""
    ring = ((-1, 0), (0, -1), (1, 0), (0, 1))
    sides = [_neighbour(points, *place) - points for place in ring]
    seen = [mask & _neighbour(mask[..., None], *place)[..., 0] for place in ring]
    total, known = torch.zeros_like(points), torch.zeros_like(mask)
    for one in range(4):
        other = (one + 1) % 4
        both = seen[one] & seen[other]
        normal = F.normalize(torch.linalg.cross(sides[one], sides[other]), dim=-1)
        total = total + normal * both[..., None]
        known = known | both
    return F.normalize(total, dim=-1), known


def _neighbour(values: Tensor, row: int, column: int) -> Tensor:
    """For each pixel of `[S, H, W, C]` what the one so many rows down and columns to the right
    has, 0 beyond the border."""
    height, width = values.shape[1:3]
    padded = F.pad(values, (0, 0, 1, 1, 1, 1))
    return padded[:, 1 + row : 1 + row + height, 1 + column : 1 + column + width]


def _largest_around(values: Tensor) -> Tensor:
    """The largest of 3 x 3 pixels around each of `[S, H, W]`."""
    return F.max_pool2d(values[:, None], 3, stride=1, padding=1)[:, 0]
