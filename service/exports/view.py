"""What a viewer needs to show a scene's points with any choice of them: the points with all that
the choice depends on, and which of them a choice leaves.

`write_view` writes, after the length of its header (uint32) and the header itself (JSON, padded
with blanks to a multiple of 4 bytes), these columns of N points, little-endian, one after another:

    position    float32 [N, 3]  world
    confidence  float32 [N]     the network's
    edge        float32 [N]     largest jump of depth to a neighbour, as a share of the nearer one's
    picture     uint16 [N]      number of the picture
    color       uint8 [N, 3]    sRGB
    flags       uint8 [N]       1 verified, 2 looks like sky, 4 nearly black, 8 nearly white

The header is ``{"points": N, "of": pixels that can become points}``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.exports.options import PointOptions
from service.exports.points import (
    Cloud,
    PixelGrid,
    depth_jumps,
    least_confidence,
    looks_like_sky,
    nearly_black,
    nearly_white,
    select_points,
)
from service.result.scene import Scene

VERIFIED, SKY, BLACK, WHITE = 1, 2, 4, 8
_EVERYTHING = PointOptions(confidence=0, points="all", max_points=2**31)


def write_view(scene: Scene, max_points: int, path: Path) -> None:
    """Every pixel that can become a point, or `max_points` of them at random."""
    everything = cloud = select_points(scene, _EVERYTHING)
    if len(everything) > max_points:
        fewer = _EVERYTHING.model_copy(update={"max_points": max_points})
        cloud = select_points(scene, fewer)
    columns: dict[str, list[NDArray]] = {
        name: [] for name in ("position", "confidence", "edge", "picture", "color", "flags")
    }
    for block in cloud.blocks():
        grid, rows, cols = cloud.places(block.index)
        columns["position"].append(block.points.astype("<f4"))
        columns["confidence"].append(block.confidence.astype("<f4"))
        columns["edge"].append(depth_jumps(grid.depth[None])[0][rows, cols].astype("<f4"))
        columns["picture"].append(np.full(len(block), block.index, "<u2"))
        columns["color"].append(block.colors)
        columns["flags"].append(_flags(grid)[rows, cols])
    header = json.dumps({"points": len(cloud), "of": len(everything)}).encode()
    header += b" " * (-len(header) % 4)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(4, "little") + header)
        for parts in columns.values():
            for part in parts:
                file.write(np.ascontiguousarray(part).tobytes())


def points_json(scene: Scene, options: PointOptions) -> dict[str, object]:
    """How many points `options` leave, of each picture too, and the confidence that their
    percentile stands for, null for none."""
    cloud: Cloud = select_points(scene, options)
    least = least_confidence(scene, options)
    return {
        "points": len(cloud),
        "pictures": list(cloud.counts),
        "least_confidence": least,
    }


def _flags(grid: PixelGrid) -> NDArray[np.uint8]:
    flags = np.zeros(grid.depth.shape, np.uint8)
    flags[grid.verified] |= VERIFIED
    flags[looks_like_sky(grid.colors, grid.content)] |= SKY
    flags[nearly_black(grid.colors)] |= BLACK
    flags[nearly_white(grid.colors)] |= WHITE
    return flags
