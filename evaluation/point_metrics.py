"""Point-cloud errors: similarity alignment, ICP, accuracy / completeness / normal consistency.

Accuracy is the distance from every predicted point to the nearest true one, completeness the
reverse, as in DTU and in the 7-Scenes / NRGBD protocol. All arithmetic is float64 on the CPU;
distances carry the unit of the true points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from model.scene.similarity import Similarity, fit_points


@dataclass(frozen=True)
class PointErrors:
    """Distances between corresponding points of one scene after alignment, divided by the scene
    scale."""

    median: float
    mean: float
    scene_scale: float
    points: int


@dataclass(frozen=True)
class SurfaceErrors:
    """Nearest-neighbour distances between two clouds; normal consistency is |cos| of matched
    normals (1 = best)."""

    accuracy_mean: float
    accuracy_median: float
    completeness_mean: float
    completeness_median: float
    overall_mean: float
    overall_median: float
    normal_consistency_mean: float
    normal_consistency_median: float


def icp(
    source: Tensor,
    target: Tensor,
    *,
    max_distance: float,
    iterations: int = 30,
    tolerance: float = 1e-6,
) -> Similarity:
    """Rigid point-to-point ICP from the identity: maps `source` [N, 3] onto `target` [M, 3].

    Matches farther apart than `max_distance` are ignored. Stops after `iterations` or when the
    share of matched points and their root mean square distance both change by less than `tolerance`
    (relative). Where fewer than three points match, the motion found so far (at first the identity)
    is returned.
    """
    if not max_distance > 0:
        raise ValueError(f"max_distance must be positive, got {max_distance}")
    source, target = source.double(), target.double()
    tree = cKDTree(target.numpy())
    motion = Similarity.identity()
    previous = (0.0, math.inf)
    for _ in range(iterations):
        distance, index = tree.query(
            motion.move_points(source).numpy(), distance_upper_bound=max_distance
        )
        matched = torch.from_numpy(np.flatnonzero(np.isfinite(distance)))
        if len(matched) < 3:
            break
        motion = fit_points(
            source[matched], target[torch.from_numpy(index)[matched]], with_scale=False
        )
        current = (
            len(matched) / len(source),
            float(np.sqrt(np.mean(distance[matched.numpy()] ** 2))),
        )
        if all(
            abs(now - before) <= tolerance * max(now, 1e-12)
            for now, before in zip(current, previous, strict=True)
        ):
            break
        previous = current
    return motion


def estimate_normals(points: Tensor, *, neighbours: int = 20) -> Tensor:
    """Unit normals [N, 3] of a cloud [N, 3]: smallest principal direction of the k nearest points;
    the sign is free."""
    if points.ndim != 2 or points.shape[1] != 3 or points.shape[0] < 3:
        raise ValueError(
            f"normals need a cloud [N, 3] of at least 3 points, got {tuple(points.shape)}"
        )
    points = points.double()
    _, index = cKDTree(points.numpy()).query(points.numpy(), k=min(neighbours, len(points)))
    local = points[torch.from_numpy(index)]
    local = local - local.mean(dim=1, keepdim=True)
    _, directions = torch.linalg.eigh(local.transpose(1, 2) @ local)
    return directions[..., 0]


def surface_errors(predicted: Tensor, true: Tensor, *, neighbours: int = 20) -> SurfaceErrors:
    """Accuracy, completeness, their mean (overall) and normal consistency of aligned clouds [N, 3]
    and [M, 3].

    Normal consistency averages the two directions of matching. Align first (`fit_points`, `icp`).
    Raises ValueError for an empty or non-finite cloud.
    """
    for name, cloud in (("predicted", predicted), ("true", true)):
        if (
            cloud.ndim != 2
            or cloud.shape[1] != 3
            or cloud.shape[0] < 3
            or not bool(cloud.isfinite().all())
        ):
            raise ValueError(
                f"the {name} cloud must be [N, 3] with at least 3 finite points, got "
                f"{tuple(cloud.shape)}"
            )
    predicted, true = predicted.double(), true.double()
    predicted_normals = estimate_normals(predicted, neighbours=neighbours)
    true_normals = estimate_normals(true, neighbours=neighbours)
    to_true, true_index = cKDTree(true.numpy()).query(predicted.numpy())
    to_predicted, predicted_index = cKDTree(predicted.numpy()).query(true.numpy())
    cosine_accuracy = (
        (predicted_normals * true_normals[torch.from_numpy(true_index)]).sum(dim=1).abs().numpy()
    )
    cosine_completeness = (
        (true_normals * predicted_normals[torch.from_numpy(predicted_index)])
        .sum(dim=1)
        .abs()
        .numpy()
    )
    mean = [
        float(np.mean(x)) for x in (to_true, to_predicted, cosine_accuracy, cosine_completeness)
    ]
    median = [
        float(np.median(x)) for x in (to_true, to_predicted, cosine_accuracy, cosine_completeness)
    ]
    return SurfaceErrors(
        accuracy_mean=mean[0],
        accuracy_median=median[0],
        completeness_mean=mean[1],
        completeness_median=median[1],
        overall_mean=(mean[0] + mean[1]) / 2,
        overall_median=(median[0] + median[1]) / 2,
        normal_consistency_mean=(mean[2] + mean[3]) / 2,
        normal_consistency_median=(median[2] + median[3]) / 2,
    )


def scene_scale(true: Tensor, camera: Tensor) -> float:
    """Mean distance of true points [N, 3] from the centre of the first camera, `camera` [3, 4]
    world-to-camera."""
    camera = camera.double()
    centre = -camera[:3, :3].T @ camera[:3, 3]
    scale = float((true.double() - centre).norm(dim=-1).mean())
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(
            f"scene scale must be finite and positive, got {scale}; are there any true points?"
        )
    return scale


def point_errors(predicted: Tensor, true: Tensor, camera: Tensor) -> PointErrors:
    """Distances between corresponding points [N, 3], relative to the scene scale.

    The prediction is aligned to the truth by one Umeyama similarity (rotation, translation, scale)
    over all N correspondences of all frames; no ICP, no outlier removal. Distances are divided by
    `scene_scale` of the truth.
    """
    scale = scene_scale(true, camera)
    distance = (fit_points(predicted, true).move_points(predicted) - true.double()).norm(
        dim=-1
    ).numpy() / scale
    return PointErrors(float(np.median(distance)), float(np.mean(distance)), scale, len(distance))
