"""Long walks round a synthetic room: what a scene of many passes, and one that comes back to a
place, look like."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from model.scene.similarity import camera_centres
from scenes.scene import Scene
from scenes.synthetic.distribution import SceneDistribution
from scenes.synthetic.generator import render_batch

MOST_VIEWS = 1000  # of a full circle; from about 72 on, cameras are nearer than elsewhere

_CIRCLE = SceneDistribution(
    orbit_weight=1.0, dolly_weight=0.0, handheld_weight=0.0, half_range=(180.0, 180.0)
)


def walk(seed: int, frames: int, lap: int, size: int, split: str = "test") -> Scene:
    """`frames` views of `size` x `size` pixels on the way round a room, `lap` of them to a turn of
    360 degrees.

    No two views are the same; later laps look from between the places of earlier ones. Raises
    ValueError for laps of more than `MOST_VIEWS` views together, or none.
    """
    laps = math.ceil(frames / max(lap, 1))
    views = laps * lap
    if not 1 <= views <= MOST_VIEWS or frames < 1:
        raise ValueError(
            f"{frames} frames in laps of {lap} take {views} views; expected 1 to {MOST_VIEWS}"
        )
    circle = replace(_CIRCLE, minimum_cell=min(_CIRCLE.minimum_cell, 360 / views))
    batch = render_batch(
        [seed], split=split, num_views=views, height=size, width=size, distribution=circle
    )
    extrinsics = batch.extrinsics[0]
    order = _azimuth(extrinsics).argsort().view(lap, laps).T.flatten()[:frames]
    return batch.select(order[None]).scene(
        0, name=f"walk-{split}-{seed:06d}", category="room", split=split
    )


def _azimuth(extrinsics: Tensor) -> Tensor:
    """Heading `[S]`, radians, of cameras `[S, 3, 4]` as seen from the point that their optical axes
    pass nearest to."""
    centres, axes = camera_centres(extrinsics.double()), extrinsics[:, 2, :3].double()
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None]
    focus = torch.linalg.lstsq(across.sum(0), (across @ centres[..., None]).sum(0)).solution[:, 0]
    x, _, z = (centres - focus).unbind(-1)
    return torch.atan2(x, z)
