"""Relative-pose errors and their AUC, by the definition of the published Co3Dv2 protocol for VGGT.

Poses are world-to-camera [R|t] in OpenCV axes. All arithmetic is float64; angles are in degrees.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model.rotations import rotation_angle

AUC_THRESHOLDS = (30, 15, 5, 3)
"""Thresholds in degrees that the field reports."""

UNDEFINED_TRANSLATION_DEG = math.degrees(1e6) - 180
"""What the protocol scores for a translation that is not finite, larger than any threshold: a
million radians, of which it then takes 180 degrees since it ignores the sign of a direction."""


def relative_pose_errors(predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation and translation-direction error of every pair of frames i < j.

    `predicted`, `true`: [..., S, 3, 4] or [..., S, 4, 4] world-to-camera. Each set is first
    expressed relative to its own first camera; the pose of a pair is then E_i^-1 E_j, so neither
    world frame nor global scale matters. Returns (rotation, translation), each [..., S(S-1)/2]
    float64 in degrees, pairs ordered (0,1), (0,2), ..., (1,2).

    The translation error ignores the sign of the direction, as the protocol does, and thus lies in
    [0, 90]. A zero translation has no direction and scores 90. A pair that is not finite scores 180
    in rotation and `UNDEFINED_TRANSLATION_DEG` in translation, so it counts as a failure instead of
    vanishing from the mean.
    """
    if predicted.shape[:-2] != true.shape[:-2]:
        raise ValueError(
            f"predicted and true poses must have the same frames, got {tuple(predicted.shape)} and "
            f"{tuple(true.shape)}"
        )
    predicted_pairs, true_pairs = _pair_poses(predicted), _pair_poses(true)

    rotation = rotation_angle(predicted_pairs[..., :3], true_pairs[..., :3])
    rotation = torch.where(rotation.isfinite(), rotation, torch.full_like(rotation, 180.0))

    a, b = predicted_pairs[..., 3], true_pairs[..., 3]
    lengths = a.norm(dim=-1) * b.norm(dim=-1)
    sine = torch.linalg.cross(a, b, dim=-1).norm(dim=-1)
    cosine = (a * b).sum(dim=-1).abs()
    translation = torch.rad2deg(torch.atan2(sine, cosine))
    translation = torch.where(lengths > 0, translation, torch.full_like(translation, 90.0))
    undefined = ~(lengths.isfinite() & translation.isfinite())
    translation = torch.where(
        undefined, torch.full_like(translation, UNDEFINED_TRANSLATION_DEG), translation
    )
    return rotation, translation


def relative_to_first(extrinsics: Tensor) -> Tensor:
    """Re-express world-to-camera poses [..., S, 3|4, 4] with the first camera as the world: [...,
    S, 3, 4] float64."""
    if extrinsics.ndim < 3 or extrinsics.shape[-2:] not in ((3, 4), (4, 4)):
        raise ValueError(
            f"expected poses [..., S, 3, 4] or [..., S, 4, 4], got {tuple(extrinsics.shape)}"
        )
    extrinsics = extrinsics.double()
    rotation, translation = extrinsics[..., :3, :3], extrinsics[..., :3, 3:]
    relative = rotation @ rotation[..., :1, :, :].transpose(-1, -2)
    return torch.cat((relative, translation - relative @ translation[..., :1, :, :]), dim=-1)


def pose_histogram(rotation_deg: Tensor, translation_deg: Tensor, threshold: int) -> Tensor:
    """Share of all pairs whose larger error falls into each 1-degree bin: [threshold] float64.

    Bins are [k, k+1); the last one is closed. The shares sum to the accuracy at `threshold`, not to
    1.
    """
    if threshold < 1 or threshold != int(threshold):
        raise ValueError(f"threshold must be a whole number of degrees >= 1, got {threshold}")
    if rotation_deg.shape != translation_deg.shape or rotation_deg.numel() == 0:
        raise ValueError(
            "rotation and translation errors must be non-empty and of one shape, "
            f"got {tuple(rotation_deg.shape)} and {tuple(translation_deg.shape)}"
        )
    error = torch.maximum(rotation_deg.double(), translation_deg.double()).flatten()
    within = error[(error >= 0) & (error <= threshold)]
    bins = within.floor().long().clamp(max=int(threshold) - 1)
    return torch.bincount(bins, minlength=int(threshold)).double() / error.numel()


def pose_auc(rotation_deg: Tensor, translation_deg: Tensor, threshold: int) -> float:
    """AUC@threshold in percent: mean over the 1-degree bins of the cumulative share of pairs
    (`pose_histogram`).

    This is the published histogram definition, which differs slightly from the exact area under the
    curve.
    """
    return 100.0 * float(pose_histogram(rotation_deg, translation_deg, threshold).cumsum(0).mean())


def _pair_poses(extrinsics: Tensor) -> Tensor:
    """[..., S, 3|4, 4] -> [..., pairs, 3, 4]: E_i^-1 E_j with E relative to the first camera."""
    poses = relative_to_first(extrinsics)
    frames = poses.shape[-3]
    if frames < 2:
        raise ValueError(f"relative poses need at least 2 frames, got {frames}")
    i, j = torch.triu_indices(frames, frames, offset=1, device=poses.device)
    first, second = poses[..., i, :, :], poses[..., j, :, :]
    inverse = first[..., :3].transpose(-1, -2)
    return torch.cat(
        (inverse @ second[..., :3], inverse @ (second[..., 3:] - first[..., 3:])), dim=-1
    )
