"""A simulated network: the true cameras and depth with errors as large as a real network's.

It says what refinement makes of a network that cannot be run here. Level p2 has about the errors
that VGGT-1B is reported with on photographs.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.refined.picture_sets import Array, PictureSet
from model.scene.geometry import invert_extrinsics, unproject_depth
from model.scene.preprocess import ImageTransform
from model.scene.reconstruction import Reconstruction

_DEPTH_ERROR = 0.04  # of log depth, smooth over the picture
_DEPTH_NODES = 4  # of that error across a picture


@dataclass(frozen=True)
class Errors:
    """Standard errors of a picture: rotation in degrees; centre in degrees as seen over the median
    baseline; focal length as a share."""

    rotation: float
    centre: float
    focal: float


LEVELS = {
    "p1": Errors(0.7, 2.0, 0.02),
    "p2": Errors(1.4, 4.0, 0.04),
    "p3": Errors(3.0, 8.0, 0.08),
    "p4": Errors(6.0, 15.0, 0.15),
}


def simulate(pictures: PictureSet, base: Reconstruction, level: str, seed: int) -> Reconstruction:
    """What a network with the errors of `level` would say of these pictures.

    `base` is any network's answer for them; its grid and colours are kept, cameras and depth are
    replaced. A picture without true depth has one depth everywhere: the distance to the place that
    the optical axes meet nearest.
    """
    errors = LEVELS[level]
    draw = np.random.default_rng(random.Random(f"{level} {seed} {pictures.name}").getrandbits(63))
    true = pictures.extrinsics
    count = len(true)
    centres = -np.einsum("sji,sj->si", true[:, :, :3], true[:, :, 3])
    away = [np.linalg.norm(a - b) for i, a in enumerate(centres) for b in centres[:i]]
    step = math.tan(math.radians(errors.centre)) * float(np.median(away))
    turns = draw.normal(size=(count, 3)) * math.radians(errors.rotation) / math.sqrt(3)
    rotations = _turns(turns) @ true[:, :, :3]
    moved = centres + draw.normal(size=(count, 3)) * step / math.sqrt(3)
    extrinsics = np.concatenate(
        [rotations, -np.einsum("sij,sj->si", rotations, moved)[..., None]], -1
    )
    intrinsics = pictures.intrinsics.copy()
    intrinsics[:, :2, :2] *= np.exp(draw.normal(size=(count, 1, 1)) * errors.focal)

    depth = _depth(pictures, base, centres, draw)
    relative = _first_is_world(torch.from_numpy(extrinsics))
    original = torch.from_numpy(intrinsics)
    network = torch.stack(
        [_to_network(k, t) for k, t in zip(original, base.transforms, strict=True)]
    )
    return replace(
        base,
        extrinsics=relative.float(),
        intrinsics=network.float(),
        original_intrinsics=original.float(),
        depth=depth,
        depth_conf=torch.ones_like(depth),
        world_points=unproject_depth(depth, relative.float(), network.float()),
    )


def _depth(
    pictures: PictureSet, base: Reconstruction, centres: Array, draw: np.random.Generator
) -> torch.Tensor:
    """[S,H,W] on the network's grid."""
    height, width = base.depth.shape[-2:]
    maps = []
    meeting = _meeting(pictures.extrinsics, centres)
    for i, transform in enumerate(base.transforms):
        (sx, sy), (ox, oy) = transform.scale, transform.offset
        true = None if pictures.depth is None else pictures.depth[i]
        if true is None or not (true > 0).any():
            z = float((pictures.extrinsics[i] @ np.append(meeting, 1.0))[2])
            maps.append(np.full((height, width), max(z, 1e-3)))
            continue
        rows, columns = (t / o for t, o in zip(true.shape, transform.original_size, strict=True))
        x = ((np.arange(width) + 0.5 - ox) / sx * columns).clip(0, true.shape[1] - 1).astype(int)
        y = ((np.arange(height) + 0.5 - oy) / sy * rows).clip(0, true.shape[0] - 1).astype(int)
        values = true[y[:, None], x[None]].astype(np.float64)
        values = np.where(values > 0, values, np.median(true[true > 0]))
        nodes = torch.from_numpy(draw.normal(size=(1, 1, _DEPTH_NODES, _DEPTH_NODES)))
        smooth = torch.nn.functional.interpolate(
            nodes, size=(height, width), mode="bicubic", align_corners=True
        )
        maps.append(values * np.exp(_DEPTH_ERROR * smooth[0, 0].numpy()))
    return torch.from_numpy(np.stack(maps)).float()


def _meeting(extrinsics: Array, centres: Array) -> NDArray[np.float64]:
    """The point that is nearest to all optical axes; between the cameras' middle points ahead where
    the axes are parallel."""
    axes = extrinsics[:, 2, :3]
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    found = np.linalg.lstsq(across.sum(0), np.einsum("sij,sj->i", across, centres), rcond=1e-6)[0]
    ahead = np.einsum("sj,sj->s", found - centres, axes)
    if (ahead > 0).all():
        return np.asarray(found)
    spread = float(np.linalg.norm(centres - centres.mean(0), axis=1).max())
    return np.asarray(centres.mean(0) + 3 * max(spread, 1e-3) * axes.mean(0))


def _turns(vectors: Array) -> Array:
    """Rotation matrices [S,3,3] of rotation vectors [S,3], radians."""
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    skew = np.array([[zero, -z, y], [z, zero, -x], [-y, x, zero]]).transpose(2, 0, 1)
    return np.asarray(torch.linalg.matrix_exp(torch.from_numpy(skew)).numpy())


def _to_network(intrinsic: torch.Tensor, transform: ImageTransform) -> torch.Tensor:
    (sx, sy), (ox, oy) = transform.scale, transform.offset
    return intrinsic.new_tensor([[sx, 0, ox], [0, sy, oy], [0, 0, 1]]) @ intrinsic


def _first_is_world(extrinsics: torch.Tensor) -> torch.Tensor:
    relative = extrinsics @ invert_extrinsics(extrinsics[:1])
    relative[0] = torch.eye(3, 4, dtype=relative.dtype)
    return relative
