"""Maps to files: 16-bit depth PNG, NPY, OpenEXR, and colour-mapped pictures of depth and confidence.

Every map here is float32 [h, w], depth in the scene's unit, NaN where there is no data.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import OpenEXR
from numpy.typing import NDArray
from PIL import Image

from service.exports.colormap import colorize

_PNG_LEVELS = 65535


def depth_scale(largest: float) -> float:
    """Depth units per step of the 16-bit PNG, so that the largest depth takes the highest value."""
    return max(largest, float(np.finfo(np.float32).tiny)) / _PNG_LEVELS


def depth_png(depth: NDArray[np.float32], scale: float) -> bytes:
    """A 16-bit grey PNG whose values times `scale` are depths; 0 means no data."""
    # A depth that would round to 0 takes value 1: 0 is reserved, and the error stays within one step.
    levels = np.clip(np.round(np.nan_to_num(depth.astype(np.float64)) / scale), 1, _PNG_LEVELS)
    levels = np.where(np.isnan(depth), 0, levels).astype(np.uint16)
    return png(Image.fromarray(levels))


def map_npy(values: NDArray[np.float32]) -> bytes:
    """The map itself as a NumPy file, float32, NaN for no data."""
    buffer = io.BytesIO()
    np.save(buffer, values.astype(np.float32), allow_pickle=False)
    return buffer.getvalue()


def write_depth_exr(depth: NDArray[np.float32], path: Path) -> None:
    """The depth map as OpenEXR with one 32-bit float channel Z, the format's own name for depth; NaN for no data."""
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"Z": np.ascontiguousarray(depth, np.float32)}).write(str(path))


def depth_picture(depth: NDArray[np.float32]) -> Image.Image:
    """The depth map as an RGB picture: near is bright, far is dark, no data is black.

    Disparity (1 / depth) between its 2nd and 98th percentile spreads over the colour map, so that one far
    outlier does not flatten the rest.
    """
    disparity = 1.0 / np.maximum(depth, np.finfo(np.float32).tiny).astype(np.float64)
    seen = disparity[~np.isnan(disparity)]
    low, high = np.percentile(seen, [2, 98]) if seen.size else (0.0, 1.0)
    return Image.fromarray(colorize((disparity - low) / max(high - low, 1e-12)))


def confidence_picture(confidence: NDArray[np.float32]) -> Image.Image:
    """The confidence map as an RGB picture: certain is bright, by rank, so that a few extremes don't flatten it."""
    seen = np.sort(confidence[~np.isnan(confidence)])
    share = np.searchsorted(seen, confidence, side="right") / max(len(seen), 1)
    return Image.fromarray(colorize(np.where(np.isnan(confidence), np.nan, share)))


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
