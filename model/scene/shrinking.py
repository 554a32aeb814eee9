"""A smaller network input from one that exists, for devices that can't hold the larger one."""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F

from model.scene.preprocess import PreprocessedImages


def shrunk(height: int, width: int, factor: float, patch_size: int) -> tuple[int, int]:
    """Both sides times `factor`, rounded to multiples of `patch_size`, at least one."""
    rows, columns = (
        max(1, round(side * factor / patch_size)) * patch_size for side in (height, width)
    )
    return rows, columns


def shrink(batch: PreprocessedImages, factor: float, patch_size: int) -> PreprocessedImages:
    """The batch resized by about `factor` (0 to 1), both sides rounded to multiples of
    `patch_size`, at least one.

    The transforms still lead to each original picture's grid.
    """
    height, width = batch.images.shape[-2:]
    rows, columns = shrunk(height, width, factor, patch_size)
    images = F.interpolate(
        batch.images, size=(rows, columns), mode="bilinear", antialias=True, align_corners=False
    )
    x, y = columns / width, rows / height
    transforms = tuple(
        replace(
            transform,
            network_size=(rows, columns),
            scale=(transform.scale[0] * x, transform.scale[1] * y),
            offset=(transform.offset[0] * x, transform.offset[1] * y),
        )
        for transform in batch.transforms
    )
    return PreprocessedImages(images.clamp(0, 1), transforms)
