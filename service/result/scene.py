"""A reconstruction as it lies in storage: the dense maps as arrays, cameras and transforms in the
document."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.scene.distortion import undistort
from model.scene.preprocess import ImageTransform
from model.scene.reconstruction import Reconstruction
from refinement.result import DenseMap, Refinement, SparsePoints
from service.result.array_file import Shapes
from service.result.document import PictureDocument, ReconstructionDocument

Grid = Literal["original", "network"]
"""A picture's own pixel grid, or the one that the network worked on."""

PREVIEW_SIDE = 1024
"""Pixels of the longer side of a picture that is kept to be looked at."""

ARRAYS = ("depth", "confidence", "colors", "mask", "keep")
TRACKS = ("track_points", "track_visibility", "track_confidence")
_SPARSE = tuple(field.name for field in fields(SparsePoints))


def map_shapes(frames: int, height: int, width: int) -> Shapes:
    """Types and shapes of the maps of a scene on a network grid; what `maps_of` gives of a part
    are some of their rows."""
    maps = (frames, height, width)
    return {
        "depth": (np.float32, maps),
        "confidence": (np.float32, maps),
        "colors": (np.uint8, (*maps, 3)),
        "mask": (np.bool_, maps),
        "keep": (np.bool_, maps),
    }


def maps_of(reconstruction: Reconstruction, keep: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """The maps that `Scene` needs of some frames; points follow from depth and cameras and are not
    stored."""
    return {
        "depth": reconstruction.depth.numpy(),
        "confidence": reconstruction.depth_conf.numpy(),
        "colors": reconstruction.colors.numpy(),
        "mask": reconstruction.mask.numpy(),
        "keep": keep,
    }


def arrays_beside(
    refinement: Refinement | None = None,
    originals: Sequence[bytes] = (),
    previews: Sequence[NDArray[np.uint8]] = (),
    tracks: Sequence[torch.Tensor | None] = (),
) -> dict[str, NDArray[Any]]:
    """What `Scene` needs beyond the document and the maps.

    `originals` are the upright pictures as JPEG or PNG, one each, which a refined scene needs;
    `previews` are smaller ones, which another scene may have. `tracks` are points, visibility and,
    if it is known, confidence, as `Scene` has them.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for index, original in enumerate(originals):
        arrays[f"picture_{index}"] = np.frombuffer(original, np.uint8)
    if not originals:
        arrays |= {f"preview_{index}": preview for index, preview in enumerate(previews)}
    if refinement is not None and refinement.sparse is not None:
        arrays |= {f"sparse_{name}": getattr(refinement.sparse, name) for name in _SPARSE}
    if refinement is not None and refinement.dense is not None:
        for index, dense in enumerate(refinement.dense):
            arrays[f"dense_depth_{index}"] = dense.depth
            arrays[f"dense_source_{index}"] = dense.source
    for name, track in zip(TRACKS, tracks, strict=False):
        if track is not None:
            arrays[name] = track.numpy()
    return arrays


@dataclass(frozen=True)
class Scene:
    """One reconstruction of S pictures on the network grid [H, W].

    `depth` and `confidence` are [S,H,W] float32, `colors` [S,H,W,3] uint8, `mask` [S,H,W] bool
    (False on padding), `keep` [S,H,W] bool (False where a user's mask hides a pixel). Tracks, if
    any, are pixels [S,N,2] of the network grid and two probabilities [S,N].

    A refined scene also has the upright `originals` as they were encoded (JPEG or PNG), its sparse
    points if cameras were refined, and one dense map a picture if dense depth was found. Another
    one has `previews` instead: files (JPEG or PNG) of the pictures with a longer side of
    `PREVIEW_SIDE` at most; results of older versions have none.
    """

    document: ReconstructionDocument
    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]
    colors: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    keep: NDArray[np.bool_]
    tracks: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    sparse: SparsePoints | None = None
    dense: tuple[DenseMap, ...] | None = None
    originals: tuple[NDArray[np.uint8], ...] = ()
    previews: tuple[NDArray[np.uint8], ...] = ()

    @classmethod
    def of(cls, document: ReconstructionDocument, arrays: Mapping[str, NDArray[Any]]) -> Scene:
        """The scene of a stored document and of the arrays beside it. Raises KeyError if an array
        is missing."""
        indices = range(len(document.pictures))
        sparse = dense = None
        originals, previews = (
            tuple(arrays[f"{name}_{index}"] for index in indices if f"{name}_{index}" in arrays)
            for name in ("picture", "preview")
        )
        if "sparse_xyz" in arrays:
            sparse = SparsePoints(**{name: arrays[f"sparse_{name}"] for name in _SPARSE})
        if "dense_depth_0" in arrays:
            dense = tuple(
                DenseMap(arrays[f"dense_depth_{index}"], arrays[f"dense_source_{index}"])
                for index in indices
            )
        return cls(
            document,
            **{name: arrays[name] for name in ARRAYS},
            tracks={name: arrays[name] for name in TRACKS if name in arrays},
            sparse=sparse,
            dense=dense,
            originals=originals,
            previews=previews,
        )

    def extrinsics(self) -> NDArray[np.float64]:
        """World-to-camera [S,3,4]."""
        return np.array([picture.extrinsic for picture in self.document.pictures])

    def intrinsics(self) -> NDArray[np.float64]:
        """[S,3,3], pixels of the original pictures, without distortion."""
        return np.array([picture.intrinsic for picture in self.document.pictures])

    def original(self, index: int, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """One upright original picture [h,w,3], decoded, made smaller to `size` (h, w) if given.
        Raises IndexError in a scene without originals."""
        with Image.open(io.BytesIO(self.originals[index].tobytes())) as picture:
            rgb = picture.convert("RGB")
        if size is not None and size != (rgb.height, rgb.width):
            rgb = rgb.resize((size[1], size[0]), Image.Resampling.BOX)
        return np.asarray(rgb)

    def depth_map(self, index: int, grid: Grid, max_side: int | None = None) -> NDArray[np.float32]:
        """Depth of one picture [h, w], NaN where there is no data, on the original or the network's
        pixel grid.

        On the original grid it is the dense depth of a scene that has it, and the network's
        elsewhere; the grid is coarser where its longer side would be above `max_side`.
        """
        if grid == "original" and self.dense is not None:
            return resampled(self.dense[index].depth, self._size(index, max_side))
        return self._map(self.depth, index, grid, max_side)

    def source_map(self, index: int) -> NDArray[np.uint8]:
        """Where each pixel of one picture's dense depth comes from, uint8 [h, w] on the original
        grid: NO_DATA, NETWORK or VERIFIED of `refinement.result`. Needs dense depth."""
        assert self.dense is not None
        return resampled(self.dense[index].source, self._size(index))

    def confidence_map(
        self, index: int, grid: Grid, max_side: int | None = None
    ) -> NDArray[np.float32]:
        """Confidence of one picture [h, w], at least 1, NaN where there is no data, on either grid;
        `max_side` as for depth."""
        return self._map(self.confidence, index, grid, max_side)

    def world_points(self, index: int) -> NDArray[np.float32]:
        """Points [H,W,3] of the centres of one picture's network pixels in the world frame."""
        picture = self.document.pictures[index]
        return unprojected(picture, picture.intrinsic_network, np.asarray(self.depth[index]))

    def dense_points(self, index: int) -> NDArray[np.float32]:
        """Points [h,w,3] of one picture's dense map in the world frame, NaN where there is no data.
        Needs dense depth."""
        assert self.dense is not None
        picture, depth = self.document.pictures[index], np.asarray(self.dense[index].depth)
        rows, columns = depth.shape
        size = picture.original_size
        smaller = np.diag([columns / size.width, rows / size.height, 1.0])
        return unprojected(picture, smaller @ np.array(picture.intrinsic), depth)

    def _size(self, index: int, max_side: int | None = None) -> tuple[int, int]:
        """Height and width of one original picture, made smaller to `max_side` if given."""
        size = self.document.pictures[index].original_size
        return size_within((size.height, size.width), max_side)

    def _map(
        self, values: NDArray[np.float32], index: int, grid: Grid, max_side: int | None
    ) -> NDArray[np.float32]:
        if grid == "network":
            seen = np.where(self.mask[index], values[index], np.float32(np.nan))
            return resampled(seen, size_within(seen.shape, max_side))
        transform = ImageTransform.from_dict(self.document.pictures[index].transform)
        (height, width), (x, y) = transform.original_size, transform.scale
        rows, columns = self._size(index, max_side)
        coarser = replace(
            transform, original_size=(rows, columns), scale=(x * width / columns, y * height / rows)
        )
        return coarser.map_to_original(torch.from_numpy(np.array(values[index]))).numpy()


def size_within(size: tuple[int, ...], max_side: int | None) -> tuple[int, int]:
    """(height, width) made smaller in proportion, so that no side is above `max_side`; None bounds
    nothing."""
    height, width = size
    share = 1.0 if max_side is None else min(max_side / max(height, width), 1.0)
    return max(round(share * height), 1), max(round(share * width), 1)


def rays(
    intrinsic: Any, distortion: float, columns: NDArray[np.floating], rows: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Directions [..., 2] (x, y at z = 1) in the camera's frame of places of a picture, continuous
    pixels."""
    matrix = np.asarray(intrinsic)
    x = (columns - matrix[0, 2]) / matrix[0, 0]
    y = (rows - matrix[1, 2]) / matrix[1, 1]
    return undistort(np.stack([x, y], axis=-1), distortion)


def unprojected(
    picture: PictureDocument, intrinsic: Any, depth: NDArray[np.float32]
) -> NDArray[np.float32]:
    """World points [h,w,3] of the pixel centres of a depth map [h,w], whose pixels `intrinsic`
    counts; the lens is that of `picture`."""
    row, column = np.mgrid[: depth.shape[0], : depth.shape[1]] + 0.5
    directions = rays(intrinsic, picture.distortion, column, row)
    extrinsic = np.array(picture.extrinsic)
    seen = np.concatenate([directions, np.ones_like(directions[..., :1])], -1) * depth[..., None]
    points: NDArray[np.float32] = ((seen - extrinsic[:, 3]) @ extrinsic[:, :3]).astype(np.float32)
    return points


def resampled(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """A map [h,w] on another grid of `size` (h, w): each pixel takes the value of the one that its
    centre lies in, so that no depth is mixed across an edge."""
    row, column = (
        ((np.arange(wanted) + 0.5) * (had / wanted)).astype(int)
        for wanted, had in zip(size, values.shape, strict=True)
    )
    return np.asarray(values)[row[:, None], column]
