"""What the refinement needs of a network's reconstruction, in numpy: its process never loads torch
for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refinement.camera_set import CameraSet

if TYPE_CHECKING:
    from torch import Tensor

    from model.scene.preprocess import ImageTransform
    from model.scene.reconstruction import Reconstruction


@dataclass(frozen=True)
class NetworkScene:
    """A network's cameras at original resolution, and its depth maps.

    A map covers the whole original picture with fewer pixels, about as many as the network saw of
    it; it is NaN where the network did not look.
    """

    cameras: CameraSet
    depth: tuple[NDArray[np.float32], ...]  # S maps [h, w] along the camera's z axis
    confidence: tuple[NDArray[np.float32], ...]  # S maps [h, w], at least 1


def network_scene(reconstruction: Reconstruction) -> NetworkScene:
    """The same scene for the refinement."""
    intrinsics = reconstruction.original_intrinsics.double().numpy()
    frames = range(len(reconstruction.transforms))
    grids = [_whole_picture(transform) for transform in reconstruction.transforms]
    return NetworkScene(
        CameraSet(
            extrinsics=reconstruction.extrinsics.double().numpy(),
            focal=(intrinsics[:, 0, 0] + intrinsics[:, 1, 1]) / 2,
            centre=intrinsics[:, :2, 2],
            distortion=np.zeros(len(frames)),
            longer_side=np.array([max(grid.original_size) for grid in reconstruction.transforms]),
        ),
        tuple(_resampled(reconstruction.depth[i], grids[i]) for i in frames),
        tuple(_resampled(reconstruction.depth_conf[i], grids[i]) for i in frames),
    )


def _whole_picture(transform: ImageTransform) -> ImageTransform:
    """From the picture at about the network's resolution, and as a whole, to the network's grid."""
    (height, width), (scale_x, scale_y) = transform.original_size, transform.scale
    rows, columns = max(1, round(height * scale_y)), max(1, round(width * scale_x))
    scale = (scale_x * width / columns, scale_y * height / rows)
    return replace(transform, original_size=(rows, columns), scale=scale)


def _resampled(values: Tensor, grid: ImageTransform) -> NDArray[np.float32]:
    resampled: NDArray[np.float32] = grid.map_to_original(values).numpy()
    return resampled
