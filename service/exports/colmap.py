"""A COLMAP sparse model, binary and text, on the pictures' original pixel grids.

COLMAP means world-to-camera poses with OpenCV axes, quaternions w first, and pixel centres at +
0.5: all as here. A scene with refined cameras gives those pictures, and its triangulated points
with their tracks. Of others every point has one observation, at the pixel that it was unprojected
from.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.rotations import matrix_to_quaternion
from refinement.result import SparsePoints
from service.exports.archive import STAMP
from service.exports.names import exported_names
from service.exports.points import Block, Cloud
from service.exports.undistort import undistorted_intrinsic, undistorted_pixels
from service.result.document import PictureDocument
from service.result.scene import Scene

_MODELS = {"PINHOLE": 1, "SIMPLE_RADIAL": 2}
_FOLDER = "sparse/0"
_POINT = np.dtype(
    [
        ("id", "<u8"),
        ("xyz", "<f8", 3),
        ("rgb", "u1", 3),
        ("error", "<f8"),
        ("length", "<u8"),
        ("track", "<i4", 2),
    ]
)
_OBSERVATION = np.dtype([("xy", "<f8", 2), ("point", "<i8")])


@dataclass(frozen=True)
class _View:
    id: int
    name: str
    model: str
    size: tuple[int, int]  # width, height
    params: tuple[float, ...]
    quaternion: list[float]  # w, x, y, z
    translation: list[float]


@dataclass(frozen=True)
class _Model:
    """Cameras, triangulated points, and unprojected pixels, whose ids follow those of the
    former."""

    views: list[_View]
    sparse: SparsePoints
    cloud: Cloud

    def __len__(self) -> int:
        return len(self.sparse.xyz) + len(self.cloud)

    def observations(self) -> Iterator[tuple[_View, NDArray]]:
        """Each picture's records _OBSERVATION: of triangulated points, then of pixels."""
        point_of = np.repeat(np.arange(len(self.sparse.xyz)), np.diff(self.sparse.start))
        first = len(self.sparse.xyz) + 1
        blocks = self.cloud.blocks()
        for view in self.views:
            mine = self.sparse.picture == view.id - 1
            count = self.cloud.counts[view.id - 1]
            found = np.empty(mine.sum() + count, _OBSERVATION)
            found["xy"][: mine.sum()] = self.sparse.pixel[mine]
            found["point"][: mine.sum()] = point_of[mine] + 1
            if count:
                found["xy"][mine.sum() :] = next(blocks).pixels
                found["point"][mine.sum() :] = np.arange(first, first + count)
                first += count
            yield view, found

    def places(self) -> NDArray[np.int64]:
        """Of each observation of a triangulated point, its number among its picture's [M]."""
        places = np.empty(len(self.sparse.picture), np.int64)
        for view in self.views:
            mine = self.sparse.picture == view.id - 1
            places[mine] = np.arange(mine.sum())
        return places

    def pixels(self) -> Iterator[tuple[int, int, Block]]:
        """The pixels of each picture that has any: the first one's id, and how many observations
        the picture has before it."""
        first = len(self.sparse.xyz) + 1
        for block in self.cloud.blocks():
            yield first, int((self.sparse.picture == block.index).sum()), block
            first += len(block)


def write_colmap(scene: Scene, cloud: Cloud, path: Path, *, text: bool = False) -> None:
    """A zip archive with ``sparse/0/{cameras,images,points3D}``, ``.bin`` or ``.txt``.

    Cameras are PINHOLE, or SIMPLE_RADIAL where a lens has distortion.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        add_colmap(archive, scene, cloud, text=text)


def add_colmap(
    archive: zipfile.ZipFile,
    scene: Scene,
    cloud: Cloud,
    *,
    text: bool = False,
    undistorted: bool = False,
) -> None:
    """The files of `write_colmap` in an archive that is open; `undistorted` for the undistorted
    pictures, whose cameras are all PINHOLE."""
    model = _model(scene, cloud, undistorted)
    files = {
        "cameras": _cameras_text(model) if text else _cameras_binary(model),
        "images": _images_text(model) if text else _images_binary(model),
        "points3D": _points_text(model) if text else _points_binary(model),
    }
    for name, chunks in files.items():
        entry = zipfile.ZipInfo(f"{_FOLDER}/{name}.{'txt' if text else 'bin'}", STAMP)
        entry.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(entry, "w", force_zip64=True) as file:
            for chunk in chunks:
                file.write(chunk)


def _model(scene: Scene, cloud: Cloud, undistorted: bool) -> _Model:
    indices = scene.document.used_pictures
    extrinsics = scene.extrinsics()
    quaternions = matrix_to_quaternion(torch.from_numpy(extrinsics[:, :, :3])).numpy()
    names = exported_names(scene)
    views = []
    for index in indices:
        picture = scene.document.pictures[index]
        model, params = _camera(picture, undistorted)
        x, y, z, w = quaternions[index].tolist()
        views.append(
            _View(
                id=index + 1,
                name=names[index],
                model=model,
                size=(picture.original_size.width, picture.original_size.height),
                params=params,
                quaternion=[w, x, y, z],
                translation=extrinsics[index, :, 3].tolist(),
            )
        )
    sparse = scene.sparse if scene.sparse is not None else _NO_POINTS
    if undistorted:
        sparse = _undistorted(scene, sparse)
    return _Model(views, _seen_by(sparse, indices), cloud.of_pictures(indices))


def _camera(picture: PictureDocument, undistorted: bool) -> tuple[str, tuple[float, ...]]:
    matrix = undistorted_intrinsic(picture) if undistorted else np.array(picture.intrinsic)
    (fx, _, cx), (_, fy, cy), _ = matrix.tolist()
    if undistorted or picture.distortion == 0:
        return "PINHOLE", (fx, fy, cx, cy)
    return "SIMPLE_RADIAL", (fx, cx, cy, picture.distortion)


_NO_POINTS = SparsePoints(
    xyz=np.empty((0, 3)),
    rgb=np.empty((0, 3), np.uint8),
    error=np.empty(0),
    start=np.zeros(1, np.int64),
    picture=np.empty(0, np.int64),
    pixel=np.empty((0, 2)),
)


def _undistorted(scene: Scene, sparse: SparsePoints) -> SparsePoints:
    """The observations in undistorted pictures; NaN for those that are not in them."""
    pixel = np.array(sparse.pixel)
    for picture in scene.document.pictures:
        mine = sparse.picture == picture.index
        size = np.array([picture.original_size.width, picture.original_size.height])
        places = undistorted_pixels(picture, pixel[mine])
        outside = (places < 0) | (places > size)
        places[outside.any(axis=1)] = np.nan
        pixel[mine] = places
    return SparsePoints(sparse.xyz, sparse.rgb, sparse.error, sparse.start, sparse.picture, pixel)


def _seen_by(sparse: SparsePoints, indices: Sequence[int]) -> SparsePoints:
    """The observations in these pictures, and the points that two of them are left of."""
    point_of = np.repeat(np.arange(len(sparse.xyz)), np.diff(sparse.start))
    kept: NDArray[np.bool_] = np.isin(sparse.picture, indices)
    kept &= np.isfinite(sparse.pixel).all(1)
    lengths = np.bincount(point_of[kept], minlength=len(sparse.xyz))
    points: NDArray[np.bool_] = lengths >= 2
    kept &= points[point_of]
    return SparsePoints(
        xyz=sparse.xyz[points],
        rgb=sparse.rgb[points],
        error=sparse.error[points],
        start=np.concatenate([[0], np.cumsum(lengths[points])]),
        picture=sparse.picture[kept],
        pixel=sparse.pixel[kept],
    )


def _cameras_binary(model: _Model) -> Iterator[bytes]:
    yield struct.pack("<Q", len(model.views))
    for view in model.views:
        yield struct.pack("<iiQQ", view.id, _MODELS[view.model], *view.size)
        yield struct.pack(f"<{len(view.params)}d", *view.params)


def _images_binary(model: _Model) -> Iterator[bytes]:
    yield struct.pack("<Q", len(model.views))
    for view, observations in model.observations():
        yield struct.pack("<i7di", view.id, *view.quaternion, *view.translation, view.id)
        yield view.name.encode() + b"\0" + struct.pack("<Q", len(observations))
        yield observations.tobytes()


def _points_binary(model: _Model) -> Iterator[bytes]:
    yield struct.pack("<Q", len(model))
    for id, xyz, rgb, error, track in _triangulated(model):
        yield struct.pack("<Q3d3BdQ", id, *xyz, *rgb, error, len(track) // 2)
        yield struct.pack(f"<{len(track)}i", *track)
    for first, before, block in model.pixels():
        points = np.zeros(len(block), _POINT)
        points["id"] = np.arange(first, first + len(block))
        points["xyz"], points["rgb"], points["length"] = block.points, block.colors, 1
        points["track"][:, 0] = block.index + 1
        points["track"][:, 1] = before + np.arange(len(block))
        yield points.tobytes()


def _triangulated(
    model: _Model,
) -> Iterator[tuple[int, list[float], list[int], float, list[int]]]:
    """Id, place, colour, error and track (picture's id and observation, in turn) of each
    triangulated point."""
    sparse = model.sparse
    tracks = np.stack([sparse.picture + 1, model.places()], axis=1).reshape(-1).tolist()
    starts = (2 * sparse.start).tolist()
    rows = zip(sparse.xyz.tolist(), sparse.rgb.tolist(), sparse.error.tolist(), strict=True)
    for number, (xyz, rgb, error) in enumerate(rows):
        yield number + 1, xyz, rgb, error, tracks[starts[number] : starts[number + 1]]


def _cameras_text(model: _Model) -> Iterator[bytes]:
    for view in model.views:
        numbers = " ".join(map(repr, (*view.size, *view.params)))
        yield f"{view.id} {view.model} {numbers}\n".encode()


def _images_text(model: _Model) -> Iterator[bytes]:
    for view, observations in model.observations():
        pose = " ".join(map(repr, (*view.quaternion, *view.translation)))
        yield f"{view.id} {pose} {view.id} {view.name}\n".encode()
        rows = zip(observations["xy"].tolist(), observations["point"].tolist(), strict=True)
        yield " ".join(f"{x:.9g} {y:.9g} {point}" for (x, y), point in rows).encode() + b"\n"


def _points_text(model: _Model) -> Iterator[bytes]:
    for id, xyz, rgb, error, track in _triangulated(model):
        yield _point_text(id, xyz, rgb, error, track)
    for first, before, block in model.pixels():
        rows = zip(block.points.tolist(), block.colors.tolist(), strict=True)
        for number, (xyz, rgb) in enumerate(rows):
            yield _point_text(first + number, xyz, rgb, 0, (block.index + 1, before + number))


def _point_text(
    id: int, xyz: Iterable[float], rgb: Iterable[int], error: float, track: Iterable[int]
) -> bytes:
    place = " ".join(f"{value:.9g}" for value in xyz)
    rest = " ".join(map(str, (*rgb, error, *track)))
    return f"{id} {place} {rest}\n".encode()
