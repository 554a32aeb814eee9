"""Where pi3's points are a mixture of near and far: what its public code leaves out of clouds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_JUMP = 0.03  # of a pixel's depth, between the nearest and the farthest in 3 x 3 pixels
_TURN = math.cos(math.radians(5))  # of two normals
_RING = ((-1, 0), (0, -1), (1, 0), (0, 1))
_AROUND = (*_RING, (-1, -1), (-1, 1), (1, -1), (1, 1))
_TINY = torch.finfo(torch.float32).tiny


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
    planes = (frame.movedim(-1, 0).contiguous() for frame in points)
    turns = [_turns(frame, where) for frame, where in zip(planes, mask, strict=True)]
    return depth_edges(points[..., 2], mask) & torch.stack(turns)


def _turns(points: Tensor, mask: Tensor) -> Tensor:
    """Where the surface turns, `[H, W]`, from points `[3, H, W]`, one plane after another."""
    normals, known = _normals(points, mask)
    least = torch.ones_like(points[0])
    for other, also in zip(_neighbours(normals, _AROUND), _neighbours(known, _AROUND), strict=True):
        cosine = (normals * other).sum(0)
        least = torch.where(known & also, least.minimum(cosine), least)
    return known & (-_largest_around(-least) < _TURN)


def _normals(points: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Unit normals `[3, H, W]`, and where there are any: each is the mean of those of the triangles
    that a pixel makes with two of its four neighbours."""
    sides = [other - points for other in _neighbours(points, _RING)]
    seen = [mask & other for other in _neighbours(mask, _RING)]
    total, known = torch.zeros_like(points), torch.zeros_like(mask)
    for one in range(4):
        other = (one + 1) % 4
        both = seen[one] & seen[other]
        total = total + _unit(_cross(sides[one], sides[other])) * both
        known = known | both
    return _unit(total), known


def _neighbours(values: Tensor, places: Sequence[tuple[int, int]]) -> list[Tensor]:
    """For each pixel of `[..., H, W]` what those so many rows down and columns to the right have,
    0 beyond the border."""
    height, width = values.shape[-2:]
    padded = F.pad(values, (1, 1, 1, 1))
    return [
        padded[..., 1 + row : 1 + row + height, 1 + column : 1 + column + width]
        for row, column in places
    ]


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross product along the first axis, where torch's own is slow."""
    pairs = ((1, 2), (2, 0), (0, 1))
    return torch.stack([a[i] * b[j] - a[j] * b[i] for i, j in pairs])


def _unit(vectors: Tensor) -> Tensor:
    """Vectors `[3, H, W]` at length 1, 0 where they are 0."""
    return vectors * vectors.square().sum(0).clamp(min=_TINY).rsqrt()


def _largest_around(values: Tensor) -> Tensor:
    """The largest of 3 x 3 pixels around each of `[..., H, W]`."""
    for _ in range(2):
        padded = F.pad(values, (1, 1), value=-torch.inf)
        three = padded[..., :-2].maximum(padded[..., 1:-1]).maximum(padded[..., 2:])
        values = three.transpose(-1, -2)
    return values
