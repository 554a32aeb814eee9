"""Arrays to the formats that other programs open: PLY, 16-bit depth PNG, NPY, colour-mapped depth pictures.

Every depth map here is float32 [h, w] in the scene's unit, NaN where there is no data.
"""

from __future__ import annotations

import io

import numpy as np
import trimesh
from numpy.typing import NDArray
from PIL import Image

from service.colormap import colorize

CONFIDENCE_PERCENTILE = 25.0
"""Points of less confidence than this percentile are left out of a PLY if nothing else is asked for."""

_PNG_LEVELS = 65535


def points_ply(
    points: NDArray[np.float32],
    colors: NDArray[np.uint8],
    confidence: NDArray[np.float32],
    *,
    percentile: float,
    max_points: int | None = None,
) -> bytes:
    """A binary little-endian PLY of the points [N,3] with colours [N,3] whose confidence [N] is high enough.

    Points below the given percentile (0 to 100) of all confidences are left out; of more than `max_points`
    an even random sample remains, the same one every time.
    """
    chosen = np.arange(len(points))
    if len(points) and percentile > 0:
        chosen = np.flatnonzero(confidence >= np.percentile(confidence, percentile))
    if max_points is not None and len(chosen) > max_points:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, max_points, replace=False))
    opaque = np.full((len(chosen), 1), 255, np.uint8)
    rgba = np.concatenate([colors[chosen], opaque], axis=1)
    cloud = trimesh.PointCloud(points[chosen], colors=rgba)  # type: ignore[no-untyped-call]
    ply: bytes = cloud.export(file_type="ply")  # type: ignore[no-untyped-call]
    return ply


def depth_scale(largest: float) -> float:
    """Depth units per step of the 16-bit PNG, so that the largest depth takes the highest value."""
    return max(largest, float(np.finfo(np.float32).tiny)) / _PNG_LEVELS


def depth_png(depth: NDArray[np.float32], scale: float) -> bytes:
    """A 16-bit grey PNG whose values times `scale` are depths; 0 means no data."""
    # A depth that would round to 0 takes value 1: 0 is reserved, and the error stays within one step.
    levels = np.clip(np.round(np.nan_to_num(depth.astype(np.float64)) / scale), 1, _PNG_LEVELS)
    levels = np.where(np.isnan(depth), 0, levels).astype(np.uint16)
    return _png(Image.fromarray(levels))


def depth_npy(depth: NDArray[np.float32]) -> bytes:
    """The depth map itself as a NumPy file, float32, NaN for no data."""
    buffer = io.BytesIO()
    np.save(buffer, depth.astype(np.float32), allow_pickle=False)
    return buffer.getvalue()


def depth_picture(depth: NDArray[np.float32]) -> Image.Image:
    """The depth map as an RGB picture: near is bright, far is dark, no data is black.

    Disparity (1 / depth) between its 2nd and 98th percentile spreads over the colour map, so that one far
    outlier does not flatten the rest.
    """
    disparity = 1.0 / np.maximum(depth, np.finfo(np.float32).tiny).astype(np.float64)
    seen = disparity[~np.isnan(disparity)]
    low, high = np.percentile(seen, [2, 98]) if seen.size else (0.0, 1.0)
    return Image.fromarray(colorize((disparity - low) / max(high - low, 1e-12)))


def depth_preview(depth: NDArray[np.float32]) -> bytes:
    """`depth_picture` as a PNG file."""
    return _png(depth_picture(depth))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
