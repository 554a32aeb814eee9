"""The public import path of the geometry that a prediction needs to be understood."""

from model.families.vggt.cameras import pose_encoding_to_cameras
from model.scene.geometry import unproject_depth

__all__ = ["pose_encoding_to_cameras", "unproject_depth"]
