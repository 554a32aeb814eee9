"""A reconstructed scene: cameras, depth and points, on the network's grid and on each picture's
own."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from model.scene.preprocess import ImageTransform


@dataclass(frozen=True)
class Reconstruction:
    """S frames of one scene; CPU tensors, float32 unless stated.

    Extrinsics are world-to-camera with OpenCV axes; the world is the first camera's frame, up to
    what the network predicts for it; the scale is arbitrary. Depth is along the camera's z axis in
    that scale.
    """

    extrinsics: Tensor  # [S, 3, 4]
    intrinsics: Tensor  # [S, 3, 3], pixels of the network grid
    original_intrinsics: Tensor  # [S, 3, 3], pixels of each original picture
    depth: Tensor  # [S, H, W]
    depth_conf: Tensor  # [S, H, W], at least 1
    world_points: Tensor  # [S, H, W, 3], unprojected depth
    colors: Tensor  # [S, H, W, 3], uint8
    mask: Tensor  # [S, H, W], bool: False on padding
    transforms: tuple[ImageTransform, ...]

    def frame(self, index: int) -> Reconstruction:
        """One frame of it, in the same world."""
        one = slice(index, index + 1)
        tensors = {
            field.name: getattr(self, field.name)[one]
            for field in fields(self)
            if field.name != "transforms"
        }
        return Reconstruction(**tensors, transforms=self.transforms[one])

    def original_depth(self, frame: int) -> Tensor:
        """Depth `[h, w]` on the frame's original pixel grid, NaN where the network did not see."""
        return self.transforms[frame].map_to_original(self.depth[frame])


def colors_of(images: Tensor) -> Tensor:
    """8-bit sRGB `[S, H, W, 3]` of a network's input `[S, 3, H, W]` in [0, 1], on the CPU."""
    return (images.movedim(1, -1) * 255).round().to(torch.uint8).cpu()
