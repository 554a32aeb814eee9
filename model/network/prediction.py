"""What one forward pass returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """Raw predictions for B scenes of S frames of H x W pixels; None where a head was left out.

    What cameras, confidences, sky and the world mean is the family's own; its `decode` says it.
    """

    pose_enc: Tensor | None = None  # [B, S, E], cameras as the family encodes them
    depth: Tensor | None = None  # [B, S, H, W, 1]
    depth_conf: Tensor | None = None  # [B, S, H, W]
    world_points: Tensor | None = None  # [B, S, H, W, 3]
    world_points_conf: Tensor | None = None  # [B, S, H, W]
    track: Tensor | None = None  # [B, S, N, 2] pixels (x, y)
    vis: Tensor | None = None  # [B, S, N] in [0, 1]
    conf: Tensor | None = None  # [B, S, N] in [0, 1]
    sky: Tensor | None = None  # [B, S, H, W], at least 0; large where there is sky
    camera_points: Tensor | None = None  # [B, S, H, W, 3] in the axes of each camera

    def map(self, change: Callable[[Tensor], Tensor]) -> Prediction:
        """The same with `change` applied to every tensor."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Prediction(
            **{name: None if value is None else change(value) for name, value in values.items()}
        )
