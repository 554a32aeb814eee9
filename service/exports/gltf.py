"""A cloud and its cameras as binary glTF 2.0: points and lines, unlit, colours in the linear space
that glTF means.

glTF stores vertex colours linearly (specification 3.7.2.1), so 8-bit sRGB is decoded to 16 bits;
written as it is it would look washed out. Its axes are y up and z backward, so one node turns the
whole scene.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.exports.points import Cloud
from service.result.scene import Scene

_FLOAT, _USHORT = 5126, 5123
_POINTS, _LINES = 0, 1
_ARRAY_BUFFER = 34962
_FRUSTUM_COLOR = (0.9, 0.25, 0.1, 1.0)
_FRUSTUM_SHARE = 0.05  # of the scene's extent


def write_glb(scene: Scene, cloud: Cloud, path: Path) -> None:
    """Points and one wire frustum per picture, in the world frame turned to glTF's axes."""
    parts: list[bytes] = []
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []

    def add(array: NDArray[Any], component: int, kind: str, **extra: Any) -> int:
        data = np.ascontiguousarray(array).tobytes()
        start = sum(map(len, parts))
        parts.append(data + bytes(-len(data) % 4))
        view: dict[str, Any] = {
            "buffer": 0,
            "byteOffset": start,
            "byteLength": len(data),
            "target": _ARRAY_BUFFER,
        }
        views.append(view)
        accessors.append(
            {
                "bufferView": len(views) - 1,
                "componentType": component,
                "count": len(array),
                "type": kind,
                **extra,
            }
        )
        return len(accessors) - 1

    def positions(points: NDArray[np.float32]) -> int:
        return add(points, _FLOAT, "VEC3", min=points.min(0).tolist(), max=points.max(0).tolist())

    meshes: list[dict[str, Any]] = []
    if len(cloud):
        attributes = {
            "POSITION": positions(cloud.points.astype("<f4")),
            "COLOR_0": add(linear_colors(cloud.colors), _USHORT, "VEC4", normalized=True),
        }
        meshes.append(
            {
                "name": "points",
                "primitives": [{"attributes": attributes, "mode": _POINTS, "material": 0}],
            }
        )
    lines = frustum_lines(scene, cloud).reshape(-1, 3).astype("<f4")
    meshes.append(
        {
            "name": "cameras",
            "primitives": [
                {"attributes": {"POSITION": positions(lines)}, "mode": _LINES, "material": 1}
            ],
        }
    )
    document = {
        "asset": {"version": "2.0", "generator": "quantvggt"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [
            {
                "name": "world",
                "rotation": [1, 0, 0, 0],
                "children": list(range(1, len(meshes) + 1)),
            },
            *({"name": mesh["name"], "mesh": index} for index, mesh in enumerate(meshes)),
        ],
        "meshes": meshes,
        "materials": [_unlit((1, 1, 1, 1)), _unlit(_FRUSTUM_COLOR)],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": sum(map(len, parts))}],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    size = sum(map(len, parts))
    with path.open("wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + size))
        file.write(struct.pack("<I4s", len(text), b"JSON") + text)
        file.write(struct.pack("<I4s", size, b"BIN\0"))
        for part in parts:
            file.write(part)


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
    around = np.concatenate([cloud.points.astype(np.float64), centres])
    low, high = np.percentile(around, [5, 95], axis=0)
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


def _unlit(color: tuple[float, ...]) -> dict[str, Any]:
    return {
        "pbrMetallicRoughness": {"baseColorFactor": list(color)},
        "extensions": {"KHR_materials_unlit": {}},
    }
