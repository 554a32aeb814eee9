"""Clouds, meshes and cameras as binary glTF 2.0: unlit, colours in the linear space that glTF
means.

glTF stores vertex colours linearly (specification 3.7.2.1), so 8-bit sRGB is decoded to 16 bits;
written as it is it would look washed out. Its axes are y up and z backward, so one node turns the
whole scene.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.exports.points import Cloud
from service.exports.tsdf import Mesh
from service.result.scene import Scene

_FLOAT, _USHORT, _UINT = 5126, 5123, 5125
_POINTS, _LINES, _TRIANGLES = 0, 1, 4
_ARRAY_BUFFER, _ELEMENT_BUFFER = 34962, 34963
_FRUSTUM_COLOR = (0.9, 0.25, 0.1, 1.0)
_FRUSTUM_SHARE = 0.05  # of the scene's extent
_SAMPLE = 200_000  # points that tell the scene's extent

VERTEX = np.dtype([("position", "<f4", 3), ("color", "<u2", 4)])
Bounds = tuple[list[float], list[float]]


@dataclass
class _File:
    """A glTF document that grows, and what fills its buffer; the bytes are made when written."""

    parts: list[Callable[[], Iterable[bytes]]] = field(default_factory=list)
    size: int = 0
    views: list[dict[str, Any]] = field(default_factory=list)
    accessors: list[dict[str, Any]] = field(default_factory=list)
    meshes: list[dict[str, Any]] = field(default_factory=list)
    materials: list[dict[str, Any]] = field(default_factory=list)

    def vertices(
        self, count: int, bounds: Bounds, chunks: Callable[[], Iterable[bytes]]
    ) -> dict[str, int]:
        """Attributes of `count` records VERTEX, which `chunks` gives."""
        view = self._view(count * VERTEX.itemsize, chunks, _ARRAY_BUFFER, VERTEX.itemsize)
        low, high = bounds
        return {
            "POSITION": self._accessor(view, _FLOAT, "VEC3", count, min=low, max=high),
            "COLOR_0": self._accessor(view, _USHORT, "VEC4", count, byteOffset=12, normalized=True),
        }

    def positions(self, points: NDArray[np.float32]) -> dict[str, int]:
        """Attributes of points [N, 3] without colours."""
        view = self._view(points.nbytes, lambda: [points.tobytes()], _ARRAY_BUFFER)
        low, high = points.min(0).tolist(), points.max(0).tolist()
        return {"POSITION": self._accessor(view, _FLOAT, "VEC3", len(points), min=low, max=high)}

    def indices(self, faces: NDArray[np.uint32]) -> int:
        """Accessor of faces [F, 3]."""
        view = self._view(faces.nbytes, lambda: [faces.tobytes()], _ELEMENT_BUFFER)
        return self._accessor(view, _UINT, "SCALAR", faces.size)

    def mesh(
        self, name: str, mode: int, color: tuple[float, ...], attributes: dict[str, int],
        **more: Any,
    ) -> None:  # fmt: skip
        """Something to draw, unlit and in `color` times its vertices' colours."""
        primitive = {
            "attributes": attributes,
            "mode": mode,
            "material": len(self.materials),
            **more,
        }
        self.meshes.append({"name": name, "primitives": [primitive]})
        self.materials.append(
            {
                "pbrMetallicRoughness": {"baseColorFactor": list(color)},
                "doubleSided": True,
                "extensions": {"KHR_materials_unlit": {}},
            }
        )

    def write(self, path: Path) -> None:
        nodes = [{"name": mesh["name"], "mesh": index} for index, mesh in enumerate(self.meshes)]
        world: dict[str, Any] = {"name": "world", "rotation": [1, 0, 0, 0]}
        if nodes:
            world["children"] = list(range(1, len(nodes) + 1))
        document: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "quantvggt"},
            "extensionsUsed": ["KHR_materials_unlit"],
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [world, *nodes],
        }
        if nodes:  # glTF knows no empty lists
            document |= {
                "meshes": self.meshes,
                "materials": self.materials,
                "accessors": self.accessors,
                "bufferViews": self.views,
                "buffers": [{"byteLength": self.size}],
            }
        text = json.dumps(document).encode()
        text += b" " * (-len(text) % 4)
        with path.open("wb") as file:
            file.write(struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + self.size))
            file.write(struct.pack("<I4s", len(text), b"JSON") + text)
            file.write(struct.pack("<I4s", self.size, b"BIN\0"))
            for chunks in self.parts:
                file.writelines(chunks())

    def _view(
        self, bytes: int, chunks: Callable[[], Iterable[bytes]], target: int, stride: int = 0
    ) -> int:
        """All sizes here are multiples of four, as glTF asks."""
        view = {"buffer": 0, "byteOffset": self.size, "byteLength": bytes, "target": target}
        if stride:
            view["byteStride"] = stride
        self.views.append(view)
        self.parts.append(chunks)
        self.size += bytes
        return len(self.views) - 1

    def _accessor(self, view: int, component: int, kind: str, count: int, **extra: Any) -> int:
        self.accessors.append(
            {"bufferView": view, "componentType": component, "count": count, "type": kind, **extra}
        )
        return len(self.accessors) - 1


def write_glb(scene: Scene, cloud: Cloud, path: Path) -> None:
    """Points and one wire frustum per picture, in the world frame turned to glTF's axes."""
    file = _File()
    if len(cloud):
        bounds = [(block.points.min(0), block.points.max(0)) for block in cloud.blocks()]
        low, high = np.min([low for low, _ in bounds], 0), np.max([high for _, high in bounds], 0)

        def records() -> Iterator[bytes]:
            for block in cloud.blocks():
                yield _records(block.points, block.colors).tobytes()

        attributes = file.vertices(len(cloud), (low.tolist(), high.tolist()), records)
        file.mesh("points", _POINTS, (1, 1, 1, 1), attributes)
    lines = frustum_lines(scene, cloud).reshape(-1, 3).astype("<f4")
    file.mesh("cameras", _LINES, _FRUSTUM_COLOR, file.positions(lines))
    file.write(path)


def write_mesh_glb(mesh: Mesh, path: Path) -> None:
    """A surface with its vertices' colours, in the world frame turned to glTF's axes."""
    file = _File()
    if len(mesh.faces):
        bounds = mesh.vertices.min(0).tolist(), mesh.vertices.max(0).tolist()
        attributes = file.vertices(
            len(mesh.vertices), bounds, lambda: [_records(mesh.vertices, mesh.colors).tobytes()]
        )
        faces = file.indices(mesh.faces.astype("<u4"))
        file.mesh("surface", _TRIANGLES, (1, 1, 1, 1), attributes, indices=faces)
    file.write(path)


def linear_colors(colors: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """sRGB [N,3] to linear RGBA [N,4], 16 bits a channel."""
    value = np.arange(256) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    table = np.round(65535 * linear).astype("<u2")
    return np.concatenate([table[colors], np.full((len(colors), 1), 65535, "<u2")], axis=1)


def frustum_lines(scene: Scene, cloud: Cloud) -> NDArray[np.float64]:
    """Line segments [S,8,2,3] in the world: from each camera's centre to its picture's corners, and
    around them."""
    extrinsics = scene.extrinsics()
    centres = -np.einsum("sji,sj->si", extrinsics[:, :, :3], extrinsics[:, :, 3])
    every = len(cloud) // _SAMPLE + 1
    some = [block.points[::every].astype(np.float64) for block in cloud.blocks()]
    low, high = np.percentile(np.concatenate([*some, centres]), [5, 95], axis=0)
    size = _FRUSTUM_SHARE * max(float(np.linalg.norm(high - low)), 1e-6)
    segments = []
    for picture, extrinsic, centre in zip(
        scene.document.pictures, extrinsics, centres, strict=True
    ):
        width, height = picture.original_size.width, picture.original_size.height
        pixels = np.array(
            [[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], np.float64
        )
        corners = (
            size * (np.linalg.inv(np.array(picture.intrinsic)) @ pixels.T).T @ extrinsic[:, :3]
            + centre
        )
        spokes = [(centre, corner) for corner in corners]
        segments.append(spokes + [(corners[i], corners[(i + 1) % 4]) for i in range(4)])
    return np.array(segments)


def _records(points: NDArray[np.float32], colors: NDArray[np.uint8]) -> NDArray[Any]:
    records = np.empty(len(points), VERTEX)
    records["position"], records["color"] = points, linear_colors(colors)
    return records
