"""Metres: of one picture from its focal length, and of a scene from what another network says of
its pictures (Depth Anything 3, "Nested")."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from model.families.depth_anything_3.sky import far_depth, is_sky
from model.families.family import Geometry

FOCAL = 300.0
"""Pixels: the focal length at which a metric network's depth is in metres as it comes."""
_LEAST_METRES, _LEAST_DEPTH = 0.01, 0.001
_FARTHEST_SKY = 200.0  # metres


def focal_length(intrinsics: Tensor) -> Tensor:
    """Mean of both focal lengths, `[...]` pixels, of intrinsics `[..., 3, 3]`."""
    return (intrinsics[..., 0, 0] + intrinsics[..., 1, 1]) / 2


def depth_in_metres(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """What a metric network says, depth `[S, H, W]`, for frames with these intrinsics `[S, 3,
    3]`."""
    return depth * (focal_length(intrinsics) / FOCAL)[..., None, None]


def in_metres(scene: Geometry, metric_depth: Tensor, sky: Tensor) -> tuple[Geometry, float]:
    """A scene of an any-view network brought to metres, and the factor.

    `metric_depth` and `sky` `[S, H, W]` are what a metric network says of the same frames, one by
    one. One factor fits its depth best where there is no sky and the scene is no less sure than in
    the median. The sky is put far away, with the least confidence. Raises ValueError where nothing
    of the two can be compared.
    """
    depth, confidence, extrinsics = scene.depth, scene.confidence, scene.extrinsics
    if depth is None or confidence is None or extrinsics is None or scene.intrinsics is None:
        raise ValueError("a scene without cameras or depth cannot be brought to metres")
    where = is_sky(sky)
    metres = depth_in_metres(metric_depth, scene.intrinsics)
    if where.all():
        raise ValueError("there is nothing but sky in these pictures")
    # numpy's, for torch's quantile refuses more than 2**24 pixels
    sure = confidence >= float(np.median(confidence[~where].double().numpy()))
    used = ~where & sure & (metres > _LEAST_METRES) & (depth > _LEAST_DEPTH)
    if not used.any():
        raise ValueError("no pixel has both a depth and a metric depth")
    near = depth[used].double()
    factor = float((metres[used].double() * near).sum() / near.square().sum())
    depth = factor * depth
    if where.any():
        depth = depth.masked_fill(where, min(far_depth(depth[~where]), _FARTHEST_SKY))
    extrinsics = extrinsics.clone()
    extrinsics[..., 3] *= factor
    confidence = confidence.masked_fill(where, 1.0)
    return replace(scene, extrinsics=extrinsics, depth=depth, confidence=confidence), factor
