"""The public import path of `model.scene.preprocess`."""

from model.scene.preprocess import preprocess_images

__all__ = ["preprocess_images"]
