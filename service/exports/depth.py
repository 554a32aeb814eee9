"""Maps to files: 16-bit depth PNG, NPY, OpenEXR, and colour-mapped pictures of depth and
confidence.

Every map here is float32 [h, w], depth in the scene's unit, NaN where there is no data.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import OpenEXR
from numpy.typing import NDArray
from PIL import Image

from refinement.result import NETWORK, NO_DATA, VERIFIED
from service.exports.colormap import colorize
from service.result.document import PNG_LEVELS
from service.result.scene import Scene


def depth_levels(depth: NDArray[np.float32], scale: float) -> Image.Image:
    """A 16-bit grey picture whose values times `scale` are depths; 0 means no data."""
    # A depth that would round to 0 takes value 1: 0 is reserved, and the error stays within one
    # step.
    levels = np.clip(np.round(np.nan_to_num(depth.astype(np.float64)) / scale), 1, PNG_LEVELS)
    levels = np.where(np.isnan(depth), 0, levels).astype(np.uint16)
    return Image.fromarray(levels)


def source_picture(source: NDArray[np.uint8]) -> Image.Image:
    """Where each pixel's depth comes from as grey: black for no data, 127 for the network's fitted
    depth, white for what several pictures agree on."""
    grey = np.zeros(3, np.uint8)
    grey[[NO_DATA, NETWORK, VERIFIED]] = 0, 127, 255
    return Image.fromarray(grey[source])


def write_npy(values: NDArray[np.float32], path: Path) -> None:
    """The map itself as a NumPy file, float32, NaN for no data."""
    with path.open("wb") as file:  # given a path, NumPy would add a suffix
        np.save(file, values.astype(np.float32), allow_pickle=False)


def write_depth_exr(depth: NDArray[np.float32], path: Path) -> None:
    """The depth map as OpenEXR with one 32-bit float channel Z, the format's own name for depth;
    NaN for no data."""
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"Z": np.ascontiguousarray(depth, np.float32)}).write(str(path))


def depth_picture(depth: NDArray[np.float32]) -> Image.Image:
    """The depth map as an RGB picture: near is bright, far is dark, no data is black.

    Disparity (1 / depth) between its 2nd and 98th percentile spreads over the colour map, so that
    one far outlier does not flatten the rest.
    """
    disparity = 1.0 / np.maximum(depth, np.finfo(np.float32).tiny).astype(np.float64)
    seen = disparity[~np.isnan(disparity)]
    low, high = np.percentile(seen, [2, 98]) if seen.size else (0.0, 1.0)
    return Image.fromarray(colorize((disparity - low) / max(high - low, 1e-12)))


def confidence_picture(confidence: NDArray[np.float32]) -> Image.Image:
    """The confidence map as an RGB picture: certain is bright, by rank, so that a few extremes
    don't flatten it."""
    seen = np.sort(confidence[~np.isnan(confidence)])
    share = np.searchsorted(seen, confidence, side="right") / max(len(seen), 1)
    return Image.fromarray(colorize(np.where(np.isnan(confidence), np.nan, share)))


def network_picture(scene: Scene, index: int) -> Image.Image:
    """One picture as the network saw it, without padding."""
    mask = scene.mask[index]
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    content = scene.colors[index][rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Image.fromarray(np.ascontiguousarray(content))


def write_png(picture: Image.Image, path: Path) -> None:
    """`picture` as a PNG file, whatever `path` ends with."""
    picture.save(path, format="PNG")
