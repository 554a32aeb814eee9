"""The public import path of `model.scene.geometry`."""

from model.scene.geometry import pose_encoding_to_cameras, unproject_depth

__all__ = ["pose_encoding_to_cameras", "unproject_depth"]
