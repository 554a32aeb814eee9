"""A COLMAP sparse model, binary and text: one PINHOLE camera per picture, on its original pixel
grid.

COLMAP means world-to-camera poses with OpenCV axes, quaternions w first, and pixel centres at +
0.5: all as here. Every point has one observation, at the pixel that it was unprojected from.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.rotations import matrix_to_quaternion
from service.exports.archive import STAMP
from service.exports.names import exported_names
from service.exports.points import Cloud
from service.result.scene import Scene

_PINHOLE = 1
_FOLDER = "sparse/0"


@dataclass(frozen=True)
class _View:
    name: str
    size: tuple[int, int]  # width, height
    params: tuple[float, float, float, float]  # fx, fy, cx, cy
    quaternion: list[float]  # w, x, y, z
    translation: list[float]
    observed: NDArray[np.float64]  # [M, 2] original pixels
    points: NDArray[np.int64]  # [M] ids


def write_colmap(scene: Scene, cloud: Cloud, path: Path, *, text: bool = False) -> None:
    """A zip archive with ``sparse/0/{cameras,images,points3D}``, ``.bin`` or ``.txt``."""
    views = _views(scene, cloud)
    tracks = _tracks(cloud, len(views))
    files = {
        "cameras": _cameras_text(views) if text else _cameras_binary(views),
        "images": _images_text(views) if text else _images_binary(views),
        "points3D": _points_text(cloud, tracks) if text else _points_binary(cloud, tracks),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, chunks in files.items():
            entry = zipfile.ZipInfo(f"{_FOLDER}/{name}.{'txt' if text else 'bin'}", STAMP)
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as file:
                for chunk in chunks:
                    file.write(chunk)


def _views(scene: Scene, cloud: Cloud) -> list[_View]:
    extrinsics = scene.extrinsics()
    quaternions = matrix_to_quaternion(torch.from_numpy(extrinsics[:, :, :3])).numpy()
    names = exported_names(scene)
    views = []
    for picture in scene.document.pictures:
        i = picture.index
        mine = np.flatnonzero(cloud.pixels[:, 0] == i)
        scale, offset = picture.transform["scale"], picture.transform["offset"]
        centre = cloud.pixels[mine, 1:] + 0.5
        (fx, _, cx), (_, fy, cy), _ = picture.intrinsic
        x, y, z, w = quaternions[i].tolist()
        views.append(
            _View(
                name=names[i],
                size=(picture.original_size.width, picture.original_size.height),
                params=(fx, fy, cx, cy),
                quaternion=[w, x, y, z],
                translation=extrinsics[i, :, 3].tolist(),
                observed=(centre - [offset["x"], offset["y"]]) / [scale["x"], scale["y"]],
                points=mine + 1,
            )
        )
    return views


def _tracks(cloud: Cloud, count: int) -> NDArray[np.int32]:
    """Per point [N,2]: its image's id and its place among that image's observations."""
    place = np.zeros(len(cloud), np.int32)
    for index in range(count):
        mine = np.flatnonzero(cloud.pixels[:, 0] == index)
        place[mine] = np.arange(len(mine))
    return np.stack([cloud.pixels[:, 0].astype(np.int32) + 1, place], axis=1)


def _cameras_binary(views: list[_View]) -> Iterator[bytes]:
    yield struct.pack("<Q", len(views))
    for id, view in enumerate(views, start=1):
        yield struct.pack("<iiQQ4d", id, _PINHOLE, *view.size, *view.params)


def _images_binary(views: list[_View]) -> Iterator[bytes]:
    yield struct.pack("<Q", len(views))
    for id, view in enumerate(views, start=1):
        yield struct.pack("<i7di", id, *view.quaternion, *view.translation, id)
        yield view.name.encode() + b"\0" + struct.pack("<Q", len(view.points))
        observations = np.empty(len(view.points), np.dtype([("xy", "<f8", 2), ("point", "<i8")]))
        observations["xy"], observations["point"] = view.observed, view.points
        yield observations.tobytes()


def _points_binary(cloud: Cloud, tracks: NDArray[np.int32]) -> Iterator[bytes]:
    yield struct.pack("<Q", len(cloud))
    record = np.dtype(
        [
            ("id", "<u8"),
            ("xyz", "<f8", 3),
            ("rgb", "u1", 3),
            ("error", "<f8"),
            ("length", "<u8"),
            ("track", "<i4", 2),
        ]
    )
    points = np.zeros(len(cloud), record)
    points["id"] = np.arange(1, len(cloud) + 1)
    points["xyz"], points["rgb"], points["length"], points["track"] = (
        cloud.points,
        cloud.colors,
        1,
        tracks,
    )
    yield points.tobytes()


def _cameras_text(views: list[_View]) -> Iterator[bytes]:
    for id, view in enumerate(views, start=1):
        yield f"{id} PINHOLE {' '.join(map(repr, (*view.size, *view.params)))}\n".encode()


def _images_text(views: list[_View]) -> Iterator[bytes]:
    for id, view in enumerate(views, start=1):
        pose = " ".join(map(repr, (*view.quaternion, *view.translation)))
        yield f"{id} {pose} {id} {view.name}\n".encode()
        rows = zip(view.observed.tolist(), view.points.tolist(), strict=True)
        yield " ".join(f"{x:.9g} {y:.9g} {point}" for (x, y), point in rows).encode() + b"\n"


def _points_text(cloud: Cloud, tracks: NDArray[np.int32]) -> Iterator[bytes]:
    rows = zip(cloud.points.tolist(), cloud.colors.tolist(), tracks.tolist(), strict=True)
    for id, ((x, y, z), (r, g, b), (image, place)) in enumerate(rows, start=1):
        yield f"{id} {x:.9g} {y:.9g} {z:.9g} {r} {g} {b} 0 {image} {place}\n".encode()
