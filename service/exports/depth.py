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
from service.exports.blocks import by_rows
from service.exports.colormap import colorize
from service.result.document import PNG_LEVELS
from service.result.scene import Scene


def depth_levels(depth: NDArray[np.float32], scale: float) -> Image.Image:
    """A 16-bit grey picture whose values times `scale` are depths; 0 means no data."""

    # A depth that would round to 0 takes value 1: 0 is reserved, and the error stays within one
    # step.
    def levels(block: NDArray[np.float32]) -> NDArray[np.uint16]:
        rounded = np.round(np.nan_to_num(block.astype(np.float64)) / scale)
        return np.where(np.isnan(block), 0, np.clip(rounded, 1, PNG_LEVELS)).astype(np.uint16)

    return Image.fromarray(by_rows(levels, depth))


def source_picture(source: NDArray[np.uint8]) -> Image.Image:
    """Where each pixel's depth comes from as grey: black for no data, 127 for the network's fitted
    depth, white for what several pictures agree on."""
    grey = np.zeros(3, np.uint8)
    grey[[NO_DATA, NETWORK, VERIFIED]] = 0, 127, 255
    return Image.fromarray(grey[source])


def write_npy(values: NDArray[np.float32], path: Path) -> None:
    """The map itself as a NumPy file, float32, NaN for no data."""
    with path.open("wb") as file:  # given a path, NumPy would add a suffix
        np.save(file, values.astype(np.float32, copy=False), allow_pickle=False)


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

    def disparity(block: NDArray[np.float32]) -> NDArray[np.float64]:
        inverse: NDArray[np.float64] = 1.0 / np.maximum(block, np.finfo(np.float32).tiny).astype(
            np.float64
        )
        return inverse

    seen = depth[~np.isnan(depth)]
    low, high = 0.0, 1.0
    if seen.size:  # of the depths, which take half the room of their inverses
        ends = np.percentile(seen, [98, 2], overwrite_input=True)
        low, high = disparity(np.asarray(ends, np.float32))
    return Image.fromarray(
        by_rows(lambda block: colorize((disparity(block) - low) / max(high - low, 1e-12)), depth)
    )


def confidence_picture(confidence: NDArray[np.float32]) -> Image.Image:
    """The confidence map as an RGB picture: certain is bright, by rank, so that a few extremes
    don't flatten it."""
    seen = confidence[~np.isnan(confidence)]
    seen.sort()

    def ranks(block: NDArray[np.float32]) -> NDArray[np.uint8]:
        share = np.searchsorted(seen, block, side="right") / max(len(seen), 1)
        return colorize(np.where(np.isnan(block), np.nan, share))

    return Image.fromarray(by_rows(ranks, confidence))


def network_picture(scene: Scene, index: int) -> Image.Image:
    """One picture as the network saw it, without padding."""
    mask = scene.mask[index]
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    content = scene.colors[index][rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Image.fromarray(np.ascontiguousarray(content))


def write_png(picture: Image.Image, path: Path) -> None:
    """`picture` as a PNG file, whatever `path` ends with."""
    picture.save(path, format="PNG")
