"""A reconstruction as it lies in storage: the dense maps as arrays, cameras and transforms in the
document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from model.scene.geometry import unproject_depth
from model.scene.preprocess import ImageTransform
from model.scene.reconstruction import Reconstruction
from service.result.document import ReconstructionDocument

Grid = Literal["original", "network"]
"""A picture's own pixel grid, or the one that the network worked on."""

ARRAYS = ("depth", "confidence", "colors", "mask", "keep")
TRACKS = ("track_points", "track_visibility", "track_confidence")


def arrays_of(reconstruction: Reconstruction, keep: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """What `Scene` needs beyond the document; points follow from depth and cameras and are not
    stored."""
    return {
        "depth": reconstruction.depth.numpy(),
        "confidence": reconstruction.depth_conf.numpy(),
        "colors": reconstruction.colors.numpy(),
        "mask": reconstruction.mask.numpy(),
        "keep": keep,
    }


@dataclass(frozen=True)
class Scene:
    """One reconstruction of S pictures on the network grid [H, W].

    `depth` and `confidence` are [S,H,W] float32, `colors` [S,H,W,3] uint8, `mask` [S,H,W] bool
    (False on padding), `keep` [S,H,W] bool (False where a user's mask hides a pixel). Tracks, if
    any, are pixels [S,N,2] of the network grid and two probabilities [S,N].
    """

    document: ReconstructionDocument
    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]
    colors: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    keep: NDArray[np.bool_]
    tracks: Mapping[str, NDArray[np.float32]]

    def extrinsics(self) -> NDArray[np.float64]:
        """World-to-camera [S,3,4]."""
        return np.array([picture.extrinsic for picture in self.document.pictures])

    def intrinsics(self) -> NDArray[np.float64]:
        """[S,3,3], pixels of the original pictures."""
        return np.array([picture.intrinsic for picture in self.document.pictures])

    def depth_map(self, index: int, grid: Grid) -> NDArray[np.float32]:
        """Depth of one picture [h, w], NaN where there is no data, on the original or the network's
        pixel grid."""
        return self._map(self.depth, index, grid)

    def confidence_map(self, index: int, grid: Grid) -> NDArray[np.float32]:
        """Confidence of one picture [h, w], at least 1, NaN where there is no data, on either
        grid."""
        return self._map(self.confidence, index, grid)

    def world_points(self) -> NDArray[np.float32]:
        """Points [S,H,W,3] of all network pixels' centres in the world frame."""
        intrinsics = torch.tensor([picture.intrinsic_network for picture in self.document.pictures])
        # unprojection counts pixels from 0; a pixel's centre is half a pixel further
        intrinsics[:, :2, 2] -= 0.5
        depth = torch.from_numpy(np.array(self.depth))
        points = unproject_depth(depth, torch.from_numpy(self.extrinsics()).float(), intrinsics)
        return points.numpy()

    def _map(self, values: NDArray[np.float32], index: int, grid: Grid) -> NDArray[np.float32]:
        if grid == "network":
            return np.where(self.mask[index], values[index], np.float32(np.nan))
        return (
            ImageTransform.from_dict(self.document.pictures[index].transform)
            .map_to_original(torch.from_numpy(np.array(values[index])))
            .numpy()
        )
