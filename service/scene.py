"""A reconstruction as it lies in storage: the dense maps as arrays, cameras and transforms in the document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from model.geometry import unproject_depth
from model.preprocess import ImageTransform
from model.reconstruction import Reconstruction
from service.exports import points_ply
from service.result import PictureDocument, ReconstructionDocument
from service.storage import Storage

Grid = Literal["original", "network"]


def arrays_of(reconstruction: Reconstruction) -> dict[str, NDArray[Any]]:
    """What `Scene` needs beyond the document; points follow from depth and cameras and are not stored."""
    return {
        "depth": reconstruction.depth.numpy(),
        "confidence": reconstruction.depth_conf.numpy(),
        "colors": reconstruction.colors.numpy(),
        "mask": reconstruction.mask.numpy(),
    }


@dataclass(frozen=True)
class Scene:
    """One stored reconstruction of S pictures on the network grid [H, W].

    `depth` and `confidence` are [S,H,W] float32, `colors` [S,H,W,3] uint8, `mask` [S,H,W] bool (False on padding).
    """

    document: ReconstructionDocument
    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]
    colors: NDArray[np.uint8]
    mask: NDArray[np.bool_]

    @classmethod
    def stored(cls, storage: Storage, id: str) -> Scene:
        """Open a stored scene; its arrays are mapped, not read. Raises NotFound."""
        document = ReconstructionDocument.model_validate_json(storage.result(id))
        names = ("depth", "confidence", "colors", "mask")
        return cls(document, **{name: storage.array(id, name) for name in names})

    def depth_map(self, index: int, grid: Grid) -> NDArray[np.float32]:
        """Depth of one picture [h, w], NaN where there is no data, on the original or the network's pixel grid."""
        picture = self.document.pictures[index]
        if grid == "network":
            return np.where(self.mask[index], self.depth[index], np.float32(np.nan))
        return _transform(picture).map_to_original(torch.from_numpy(np.array(self.depth[index]))).numpy()

    def ply(self, *, percentile: float, max_points: int | None) -> bytes:
        """All pictures' points in the world frame as a coloured PLY; see `exports.points_ply`."""
        pictures = self.document.pictures
        points = unproject_depth(
            torch.from_numpy(np.array(self.depth)),
            torch.tensor([picture.extrinsic for picture in pictures]),
            torch.tensor([picture.intrinsic_network for picture in pictures]),
        ).numpy()
        return points_ply(
            points[self.mask],
            self.colors[self.mask],
            self.confidence[self.mask],
            percentile=percentile,
            max_points=max_points,
        )


def _transform(picture: PictureDocument) -> ImageTransform:
    scale, offset = picture.transform["scale"], picture.transform["offset"]
    return ImageTransform(
        original_size=(picture.original_size.height, picture.original_size.width),
        network_size=(picture.network_size.height, picture.network_size.width),
        scale=(scale["x"], scale["y"]),
        offset=(offset["x"], offset["y"]),
    )
