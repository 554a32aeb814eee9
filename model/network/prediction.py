"""What one forward pass returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """Raw predictions for B scenes of S frames of H x W pixels; None where a head was left out.

    Cameras are world-to-camera with OpenCV axes, the world is the first camera's frame, the scale is arbitrary.
    """

    pose_enc: Tensor | None = None  # [B, S, 9]: translation 3, quaternion xyzw, vertical and horizontal field of view
    depth: Tensor | None = None  # [B, S, H, W, 1]
    depth_conf: Tensor | None = None  # [B, S, H, W], at least 1
    world_points: Tensor | None = None  # [B, S, H, W, 3]
    world_points_conf: Tensor | None = None  # [B, S, H, W], at least 1
    track: Tensor | None = None  # [B, S, N, 2] pixels (x, y)
    vis: Tensor | None = None  # [B, S, N] in [0, 1]
    conf: Tensor | None = None  # [B, S, N] in [0, 1]
