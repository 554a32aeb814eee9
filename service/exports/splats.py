"""What trainers of Gaussian splats start from: undistorted pictures, their cameras, points, and a
first set of gaussians."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.exports.archive import STAMP
from service.exports.cameras import transforms_json
from service.exports.colmap import add_colmap
from service.exports.names import exported_names
from service.exports.options import PointOptions
from service.exports.ply import write_points
from service.exports.points import Cloud, PixelGrid, first_by_cube, select_points
from service.exports.undistort import undistorted_picture
from service.result.scene import Scene

MOST_GAUSSIANS = 500_000
_SURER_THAN = 30.0  # percent of the network's pixels, where there is no dense depth
_GROWTH = 1.2
_OPACITY = 0.1
_SH_0 = 0.28209479177387814
"""The spherical harmonic of degree 0: 1 / (2 sqrt(pi))."""

_FIELDS = (
    *"xyz", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3)), *(f"f_rest_{i}" for i in range(45)),
    "opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4)),
)  # fmt: skip
"""The layout of the authors of 3D Gaussian Splatting (Kerbl et al. 2023), harmonics of degree 3."""


@dataclass(frozen=True)
class Seeds:
    """N points in the world frame, thinned to one a cube. `widths` are the widths of the pixels
    that they come from, or of the cubes where those are wider."""

    points: NDArray[np.float32]  # [N, 3]
    colors: NDArray[np.uint8]  # [N, 3]
    widths: NDArray[np.float32]  # [N]


def seeds(scene: Scene, most: int = MOST_GAUSSIANS) -> Seeds:
    """At most `most` points of the pictures whose cameras can be relied on.

    They are the verified pixels of dense depth, or the network's surer ones if there are none. The
    cubes are as wide as the median pixel, and grow until few enough points are left; of the points
    in one, the one seen from nearest stays.
    """
    cloud = _trusted(scene)
    cube: float | None = None
    found = Seeds(np.empty((0, 3), np.float32), np.empty((0, 3), np.uint8), np.empty(0, np.float32))
    for block in cloud.blocks():
        extrinsic = np.array(scene.document.pictures[block.index].extrinsic)
        depth = block.points @ extrinsic[2, :3] + extrinsic[2, 3]
        widths = (depth * PixelGrid(scene, block.index).pixel_width).astype(np.float32)
        cube = cube or float(np.median(widths))
        found = _thinned(
            Seeds(
                np.concatenate([found.points, block.points]),
                np.concatenate([found.colors, block.colors]),
                np.concatenate([found.widths, widths]),
            ),
            cube,
        )
        while len(found.points) > most:
            cube *= _GROWTH
            found = _thinned(found, cube)
    return replace(found, widths=np.maximum(found.widths, np.float32(cube or 0)))


def write_gaussians(scene: Scene, path: Path) -> None:
    """Round gaussians at the points of `seeds`, as wide as these are apart, in a PLY file of 62
    floats each."""
    start = seeds(scene)
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(start.points)}"]
    header += [f"property float {name}" for name in _FIELDS]
    rows = np.zeros(len(start.points), [(name, "<f4") for name in _FIELDS])
    for axis, values in zip("xyz", start.points.T, strict=True):
        rows[axis] = values
    for channel, values in enumerate(start.colors.T):
        rows[f"f_dc_{channel}"] = (values / 255 - 0.5) / _SH_0
        rows[f"scale_{channel}"] = np.log(start.widths)
    rows["opacity"] = np.log(_OPACITY / (1 - _OPACITY))
    rows["rot_0"] = 1
    with path.open("wb") as file:
        file.write("\n".join([*header, "end_header\n"]).encode())
        rows.tofile(file)


def write_splats(scene: Scene, gaussians: Path, path: Path) -> None:
    """A zip archive that trainers take as it is: undistorted pictures in ``images/`` with a COLMAP
    model in ``sparse/0`` and the same as ``transforms.json``, and gaussians to start from.

    It holds only pictures whose cameras were refined.
    """
    names = exported_names(scene)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for index in scene.document.used_pictures:
            content = undistorted_picture(scene.document.pictures[index], scene.originals[index])
            archive.writestr(zipfile.ZipInfo(f"images/{names[index]}", STAMP), content)
        add_colmap(archive, scene, Cloud.empty(scene), undistorted=True)
        _add_transforms(archive, scene, undistorted=True)
        archive.writestr(zipfile.ZipInfo("gaussians.ply", STAMP), gaussians.read_bytes())


def write_nerfstudio(scene: Scene, path: Path) -> None:
    """A zip archive that nerfstudio takes as it is: the upright originals of the pictures whose
    cameras were refined, ``transforms.json`` with their distortion, and points."""
    names = exported_names(scene)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for index in scene.document.used_pictures:
            content = scene.originals[index].tobytes()
            archive.writestr(zipfile.ZipInfo(f"images/{names[index]}", STAMP), content)
        _add_transforms(archive, scene, undistorted=False)


def _add_transforms(archive: zipfile.ZipFile, scene: Scene, *, undistorted: bool) -> None:
    """``transforms.json`` and the points that it names."""
    text = json.dumps(transforms_json(scene, undistorted=undistorted), indent=1) + "\n"
    archive.writestr(zipfile.ZipInfo("transforms.json", STAMP), text)
    start = seeds(scene)
    with archive.open(zipfile.ZipInfo("points.ply", STAMP), "w", force_zip64=True) as file:
        write_points(file, start.points, start.colors)


def _trusted(scene: Scene) -> Cloud:
    used = scene.document.used_pictures
    if scene.dense is not None:
        cloud = select_points(scene, PointOptions(confidence=0)).of_pictures(used)
        if len(cloud):
            return cloud
    options = PointOptions(confidence=_SURER_THAN)
    return select_points(replace(scene, dense=None), options).of_pictures(used)


def _thinned(seeds: Seeds, cube: float) -> Seeds:
    """One point a cube: the one with the narrowest pixel."""
    order = np.argsort(seeds.widths, kind="stable")
    kept = np.sort(order[first_by_cube(seeds.points[order], cube)])
    return Seeds(seeds.points[kept], seeds.colors[kept], seeds.widths[kept])
