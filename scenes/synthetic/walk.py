"""Long walks round a synthetic room: what a scene of many passes, and one that comes back to a
place, look like."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model.scene.similarity import camera_centres
from scenes.scene import Scene, SceneBatch
from scenes.synthetic.distribution import SceneDistribution
from scenes.synthetic.generator import render_batch

MOST_VIEWS = 1000  # of a full circle; from about 72 on, cameras are nearer than elsewhere


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
    batch = _on_an_arc(seed, views, 360.0, size, split)
    order = _azimuth(batch.extrinsics[0]).argsort().view(lap, laps).T.flatten()[:frames]
    return batch.select(order[None]).scene(
        0, name=f"walk-{split}-{seed:06d}", category="room", split=split
    )


def there_and_back(seed: int, frames: int, arc: float, size: int, split: str = "test") -> Scene:
    """`frames` views of `size` x `size` pixels on an arc of so many degrees in a room: one way, and
    back between the places of the first half.

    Raises ValueError for more than `MOST_VIEWS` frames or fewer than two.
    """
    if not 2 <= frames <= MOST_VIEWS:
        raise ValueError(f"{frames} frames there and back; expected 2 to {MOST_VIEWS}")
    batch = _on_an_arc(seed, frames, arc, size, split)
    along = _azimuth(batch.extrinsics[0]).argsort()
    order = torch.cat((along[::2], along[1::2].flip(0)))
    return batch.select(order[None]).scene(
        0, name=f"arc-{split}-{seed:06d}", category="room", split=split
    )


def _on_an_arc(seed: int, views: int, degrees: float, size: int, split: str) -> SceneBatch:
    distribution = SceneDistribution(
        orbit_weight=1.0,
        dolly_weight=0.0,
        handheld_weight=0.0,
        half_range=(degrees / 2, degrees / 2),
        minimum_cell=min(SceneDistribution().minimum_cell, degrees / views),
    )
    return render_batch(
        [seed], split=split, num_views=views, height=size, width=size, distribution=distribution
    )


def _azimuth(extrinsics: Tensor) -> Tensor:
    """Heading `[S]`, radians, of cameras `[S, 3, 4]` as seen from the point that their optical axes
    pass nearest to."""
    centres, axes = camera_centres(extrinsics.double()), extrinsics[:, 2, :3].double()
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None]
    focus = torch.linalg.lstsq(across.sum(0), (across @ centres[..., None]).sum(0)).solution[:, 0]
    x, _, z = (centres - focus).unbind(-1)
    return torch.atan2(x, z)
