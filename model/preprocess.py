"""The public import path of `model.scene.preprocess`, with VGGT's grid as the usual one."""

from __future__ import annotations

from collections.abc import Sequence

from model.families.vggt.config import VGGTConfig
from model.scene import preprocess
from model.scene.pictures import Source
from model.scene.preprocess import PreprocessedImages

_USUAL = VGGTConfig()


def preprocess_images(
    sources: Sequence[Source],
    mode: str = "fit",
    image_size: int = _USUAL.img_size,
    patch_size: int = _USUAL.patch_size,
) -> PreprocessedImages:
    """Brings pictures onto one grid; see `model.scene.preprocess.preprocess_images`."""
    return preprocess.preprocess_images(sources, mode, image_size, patch_size)


__all__ = ["preprocess_images"]
