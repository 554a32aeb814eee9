"""Which pixels of a scene become points of its cloud."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidOption
from service.exports.options import PointOptions
from service.result.scene import Scene

_BLACK, _WHITE = 16, 240
_SKY_BRIGHT, _SKY_WHITE, _SKY_TEXTURE = 110, 200, 12


@dataclass(frozen=True)
class Cloud:
    """N points in the world frame with sRGB colours, the network's confidence, and the pixels that
    they come from.

    `pixels` is int64 [N,3]: picture, column, row on the network grid.
    """

    points: NDArray[np.float32]  # [N, 3]
    colors: NDArray[np.uint8]  # [N, 3]
    confidence: NDArray[np.float32]  # [N]
    pixels: NDArray[np.int64]  # [N, 3]

    def __len__(self) -> int:
        return len(self.points)

    def part(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Cloud:
        return Cloud(
            self.points[chosen], self.colors[chosen], self.confidence[chosen], self.pixels[chosen]
        )


def select_points(scene: Scene, options: PointOptions) -> Cloud:
    """The cloud that `options` ask for.

    The percentile of confidence is taken over the pixels that masks and frames leave; colour and
    edge filters, voxels and the limit follow in this order. Raises InvalidOption for a frame that
    does not exist.
    """
    seen = np.array(scene.mask) & scene.keep
    numbers = options.frame_numbers
    if numbers is not None:
        if numbers[-1] >= len(seen):
            raise InvalidOption(
                f"frames names picture {numbers[-1]}; the last is {len(seen) - 1}.", option="frames"
            )
        shown = np.zeros(len(seen), bool)
        shown[numbers] = True
        seen &= shown[:, None, None]
    if options.confidence > 0 and seen.any():
        seen &= scene.confidence >= np.percentile(scene.confidence[seen], options.confidence)
    colors = np.asarray(scene.colors)
    if options.mask_black:
        seen &= colors.astype(np.int32).sum(-1) >= _BLACK
    if options.mask_white:
        seen &= ~(colors > _WHITE).all(-1)
    if options.mask_sky:
        seen &= ~np.stack([looks_like_sky(c, m) for c, m in zip(colors, scene.mask, strict=True)])
    if options.depth_edge is not None:
        seen &= ~depth_edges(np.asarray(scene.depth), options.depth_edge)
    picture, row, column = np.nonzero(seen)
    cloud = Cloud(
        scene.world_points()[seen],
        colors[seen],
        scene.confidence[seen],
        np.stack([picture, column, row], axis=1),
    )
    if options.voxel_size is not None and len(cloud):
        cloud = cloud.part(_most_confident_by_voxel(cloud, options.voxel_size))
    if options.max_points is not None and len(cloud) > options.max_points:
        cloud = cloud.part(
            np.sort(np.random.default_rng(0).choice(len(cloud), options.max_points, replace=False))
        )
    return cloud


def depth_edges(depth: NDArray[np.float32], share: float) -> NDArray[np.bool_]:
    """Pixels [S,H,W] whose depth differs from a neighbour's by more than `share` of the nearer
    one's."""
    edges = np.zeros(depth.shape, bool)
    for axis in (1, 2):
        a, b = np.split(depth, [-1], axis)[0], np.split(depth, [1], axis)[1]
        jump = np.abs(a - b) > share * np.minimum(a, b)
        pad = [(0, 0)] * 3
        for before in (0, 1):
            pad[axis] = (before, 1 - before)
            edges |= np.pad(jump, pad)
    return edges


def looks_like_sky(colors: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A guess [H,W] from colour alone: smooth and blue or very bright, without a break from the
    picture's top down.

    It knows no semantics: a white ceiling passes for sky, a dramatic evening sky does not.
    """
    red, green, blue = (colors[..., i].astype(np.int32) for i in range(3))
    brightest, darkest = (
        np.maximum(np.maximum(red, green), blue),
        np.minimum(np.minimum(red, green), blue),
    )
    is_blue = (blue >= green) & (green >= red - 8) & (blue - red > 12) & (blue > _SKY_BRIGHT)
    is_white = (darkest > _SKY_WHITE) & (brightest - darkest < 30)
    grey = colors.astype(np.float32).mean(-1)
    texture = np.abs(np.diff(grey, axis=0, prepend=grey[:1]))
    texture[~np.roll(mask, 1, axis=0)] = 0  # the edge of the padding is no texture
    candidate = ((is_blue | is_white) & (texture < _SKY_TEXTURE)) | ~mask
    from_the_top: NDArray[np.bool_] = np.logical_and.accumulate(candidate, axis=0) & mask
    return from_the_top


def _most_confident_by_voxel(cloud: Cloud, size: float) -> NDArray[np.int64]:
    cells = (
        np.floor(cloud.points.astype(np.float64) / size).clip(-(2.0**62), 2.0**62).astype(np.int64)
    )
    order = np.argsort(-cloud.confidence, kind="stable")
    _, first = np.unique(cells[order], axis=0, return_index=True)
    chosen: NDArray[np.int64] = np.sort(order[first])
    return chosen
