"""Clouds and meshes as PLY, binary or text."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from service.exports.points import Cloud
from service.exports.tsdf import Mesh

_POINT = np.dtype([("position", "<f4", 3), ("color", "u1", 3)])
_RECORD = np.dtype([*_POINT.descr, ("confidence", "<f4")])
_FACE = np.dtype([("count", "u1"), ("corners", "<i4", 3)])
_PLACE = [f"property float {axis}" for axis in "xyz"]
_COLOR = [f"property uchar {channel}" for channel in ("red", "green", "blue")]


def write_ply(cloud: Cloud, path: Path, *, ascii: bool = False) -> None:
    """Points with sRGB colours and the network's confidence; binary little-endian unless
    `ascii`."""
    format = "ascii" if ascii else "binary_little_endian"
    header = ["ply", f"format {format} 1.0", f"element vertex {len(cloud)}"]
    header += [*_PLACE, *_COLOR, "property float confidence"]
    with path.open("wb") as file:
        file.write("\n".join([*header, "end_header\n"]).encode())
        for block in cloud.blocks():
            if ascii:
                rows = np.concatenate(
                    [block.points, block.colors, block.confidence[:, None]], axis=1
                )
                np.savetxt(file, rows, fmt=["%.9g"] * 3 + ["%d"] * 3 + ["%.6g"])
            else:
                records = np.empty(len(block), _RECORD)
                records["position"], records["color"] = block.points, block.colors
                records["confidence"] = block.confidence
                file.write(records.tobytes())


def write_points(file: IO[bytes], points: NDArray[np.float32], colors: NDArray[np.uint8]) -> None:
    """Points [N, 3] with sRGB colours [N, 3] and nothing else, binary little-endian."""
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    file.write("\n".join([*header, *_PLACE, *_COLOR, "end_header\n"]).encode())
    file.write(_points(points, colors).tobytes())


def write_mesh(mesh: Mesh, path: Path) -> None:
    """A surface with its vertices' sRGB colours, binary little-endian."""
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(mesh.vertices)}"]
    header += [*_PLACE, *_COLOR, f"element face {len(mesh.faces)}"]
    header += ["property list uchar int vertex_indices", "end_header\n"]
    faces = np.empty(len(mesh.faces), _FACE)
    faces["count"], faces["corners"] = 3, mesh.faces
    with path.open("wb") as file:
        file.write("\n".join(header).encode())
        _points(mesh.vertices, mesh.colors).tofile(file)
        faces.tofile(file)


def read_mesh(path: Path) -> Mesh:
    """The inverse of `write_mesh`; reads no other PLY files."""
    with path.open("rb") as file:
        counts = []
        while (line := file.readline()) != b"end_header\n":
            if line.startswith(b"element"):
                counts.append(int(line.split()[-1]))
        points = np.fromfile(file, _POINT, counts[0])
        faces = np.fromfile(file, _FACE, counts[1])
    return Mesh(points["position"], points["color"], faces["corners"].astype(np.int64))


def _points(points: NDArray[np.float32], colors: NDArray[np.uint8]) -> NDArray:
    records = np.empty(len(points), _POINT)
    records["position"], records["color"] = points, colors
    return records
