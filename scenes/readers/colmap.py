"""A folder with a COLMAP model, for example ETH3D's undistorted scenes: pictures and cameras, no
depth.

The model is `sparse/0`, `sparse` or `dslr_calibration_undistorted`, as text or binary; its pictures
lie under `images`.

Why not pycolmap's reader: version 4.2 reads a `cameras.bin` that was cut short as a camera with all
parameters 0, ends a picture's name in a text model at the first blank, and wants the points, which
nothing here needs. This reader refuses the first, reads the second, and does without the third.
"""

from __future__ import annotations

import struct
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from model.rotations import quaternion_to_matrix
from scenes.readers.recording import (
    Frame,
    RecordedScenes,
    UnusableSceneError,
    collect,
    scene_folders,
    spread,
)
from scenes.readers.resizing import Array, Size

MODELS = ("sparse/0", "sparse", "dslr_calibration_undistorted")


class _Lens(NamedTuple):
    """A COLMAP camera model. `focals`: how many of its parameters are focal lengths; 0 where no
    part is a pinhole."""

    name: str
    params: int
    focals: int


_LENSES = (  # in the order of COLMAP's model numbers
    _Lens("SIMPLE_PINHOLE", 3, 1),
    _Lens("PINHOLE", 4, 2),
    _Lens("SIMPLE_RADIAL", 4, 1),
    _Lens("RADIAL", 5, 1),
    _Lens("OPENCV", 8, 2),
    _Lens("OPENCV_FISHEYE", 8, 0),
    _Lens("FULL_OPENCV", 12, 2),
    _Lens("FOV", 5, 0),
    _Lens("SIMPLE_RADIAL_FISHEYE", 4, 0),
    _Lens("RADIAL_FISHEYE", 5, 0),
    _Lens("THIN_PRISM_FISHEYE", 12, 0),
)
_BY_NAME = {lens.name: lens for lens in _LENSES}


class _Camera(NamedTuple):
    lens: _Lens
    size: Size
    params: tuple[float, ...]


class _Image(NamedTuple):
    name: str
    camera: int
    pose: tuple[float, ...]  # quaternion w, x, y, z and translation, world-to-camera


def read_colmap(
    root: Path, *, views: int | None = None, image_size: int, patch_size: int
) -> RecordedScenes:
    """`root` or each folder in it: `views` frames evenly spaced by picture name (None: all). Raises
    ValueError.

    Distorted cameras are refused: the network predicts pinhole cameras, so the truth must be one.
    """
    folders = scene_folders(
        root, [f"{model}/cameras.{end}" for model in MODELS for end in ("bin", "txt")]
    )

    def frames_of(name: str) -> list[Frame]:
        folder = folders[name]
        for model in (folder / place for place in MODELS):
            if (model / "cameras.bin").is_file():
                cameras, images = _read_cameras_binary(model), _read_images_binary(model)
            elif (model / "cameras.txt").is_file():
                cameras, images = _read_cameras_text(model), _read_images_text(model)
            else:
                continue
            return [
                _frame(folder, model, image, cameras) for image in spread(sorted(images), views)
            ]
        raise UnusableSceneError(
            f"no COLMAP model; expected cameras.bin or cameras.txt in {', '.join(MODELS)}"
        )

    return collect(
        folders,
        frames_of,
        category="colmap",
        split="test",
        image_size=image_size,
        patch_size=patch_size,
    )


def _frame(folder: Path, model: Path, image: _Image, cameras: dict[int, _Camera]) -> Frame:
    if image.camera not in cameras:
        raise ValueError(
            f"{model}: picture {image.name} has camera {image.camera}, which the model does not "
            "list"
        )
    w, x, y, z, *translation = image.pose
    rotation = quaternion_to_matrix(torch.tensor([x, y, z, w], dtype=torch.float64)).numpy()
    camera = cameras[image.camera]
    extrinsic = np.column_stack([rotation, translation])
    return Frame(
        folder / "images" / image.name,
        extrinsic,
        _intrinsic(model, image.camera, camera),
        camera.size,
    )


def _intrinsic(model: Path, number: int, camera: _Camera) -> Array:
    lens, params = camera.lens, camera.params
    if lens.focals == 0 or any(params[lens.focals + 2 :]):
        raise ValueError(
            f"{model}: camera {number} is a distorted {lens.name}; undistort the pictures first "
            "(colmap image_undistorter) and read the folder that it writes"
        )
    cx, cy = params[lens.focals : lens.focals + 2]
    return np.array([[params[0], 0, cx], [0, params[lens.focals - 1], cy], [0, 0, 1]])


def _read_cameras_text(model: Path) -> dict[int, _Camera]:
    cameras = {}
    for line in _lines(model / "cameras.txt"):
        if not line.strip():
            continue
        try:
            number, name, width, height, *params = line.split()
            lens = _BY_NAME[name]
            cameras[int(number)] = _Camera(
                lens, (int(height), int(width)), tuple(map(float, params))
            )
            if len(params) != lens.params:
                raise ValueError(f"{name} has {lens.params} parameters")
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{model / 'cameras.txt'}: expected 'id, model, width, height, parameters', found "
                f"{line!r} ({error})"
            ) from error
    return cameras


def _read_images_text(model: Path) -> list[_Image]:
    """Two lines a picture: its pose, then its points (x, y, 3D point), which may be an empty
    line."""
    lines = _lines(model / "images.txt")
    while lines and not lines[-1].strip():
        lines.pop()
    images = []
    for line, points in zip_longest(lines[::2], lines[1::2], fillvalue=""):
        try:
            _, *pose, camera, name = line.split(maxsplit=9)
            images.append(_Image(name, int(camera), tuple(map(float, pose))))
            if len(pose) != 7 or len(points.split()) % 3:
                raise ValueError("a line is missing")
        except ValueError as error:
            raise ValueError(
                f"{model / 'images.txt'}: expected 'id, qw, qx, qy, qz, tx, ty, tz, camera, name', "
                f"found {line!r}, "
                "and a second line with its points"
            ) from error
    return images


def _lines(path: Path) -> list[str]:
    return [
        line
        for line in _bytes(path).decode("utf-8", errors="replace").splitlines()
        if not line.startswith("#")
    ]


def _read_cameras_binary(model: Path) -> dict[int, _Camera]:
    cursor = _Cursor(model / "cameras.bin")
    cameras = {}
    for _ in range(*cursor.take("Q")):
        number, lens, width, height = cursor.take("iiQQ")
        if not 0 <= lens < len(_LENSES):
            raise ValueError(f"{cursor.path}: camera {number} has the unknown model {lens}")
        cameras[number] = _Camera(
            _LENSES[lens], (height, width), cursor.take(f"{_LENSES[lens].params}d")
        )
    return cameras


def _read_images_binary(model: Path) -> list[_Image]:
    cursor = _Cursor(model / "images.bin")
    images = []
    for _ in range(*cursor.take("Q")):
        _, *pose, camera = cursor.take("i7di")
        images.append(_Image(cursor.take_name(), camera, tuple(pose)))
        (points,) = cursor.take("Q")
        cursor.take(f"{24 * points}x")  # x, y and the number of the 3D point
    return images


class _Cursor:
    """A little-endian binary file, read from front to back."""

    def __init__(self, path: Path) -> None:
        self.path, self._content, self._position = path, _bytes(path), 0

    def take(self, layout: str) -> tuple[Any, ...]:
        try:
            values = struct.unpack_from(f"<{layout}", self._content, self._position)
        except struct.error as error:
            raise ValueError(f"{self.path}: the file is cut short: {error}") from error
        self._position += struct.calcsize(f"<{layout}")
        return values

    def take_name(self) -> str:
        """Text up to a zero byte."""
        end = self._content.find(b"\0", self._position)
        (name, _) = self.take(f"{max(end - self._position, 0)}s1s")
        return name.decode("utf-8", errors="replace")


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; a COLMAP model has cameras and images in one format"
        )
    return path.read_bytes()
