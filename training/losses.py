"""Loss terms of the demonstration network; each is a pure function and takes ground truth in
normalised scenes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

TRANSLATION_WEIGHT, QUATERNION_WEIGHT, FIELD_OF_VIEW_WEIGHT = 3.0, 1.0, 0.5


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` is true; 0 (with a gradient path) if it is true nowhere."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def camera_loss(
    predicted: Sequence[Tensor], true: Tensor, *, decay: float = 0.6, beta: float = 0.05
) -> Tensor:
    """Smooth L1 on the pose encodings `[B, S, 9]` of all refinement iterations.

    The last iteration weighs 1, the one before it `decay`, and so on. A quaternion and its negative
    are the same rotation: the truth takes the sign of the prediction.
    """
    total = true.new_zeros(())
    for back, encoding in enumerate(reversed(predicted)):
        sign = torch.where(
            (encoding[..., 3:7].detach() * true[..., 3:7]).sum(-1, keepdim=True) < 0, -1.0, 1.0
        )
        target = torch.cat((true[..., :3], sign * true[..., 3:7], true[..., 7:]), dim=-1)
        error = F.smooth_l1_loss(encoding, target, reduction="none", beta=beta)
        total = total + decay**back * (
            TRANSLATION_WEIGHT * error[..., :3].mean()
            + QUATERNION_WEIGHT * error[..., 3:7].mean()
            + FIELD_OF_VIEW_WEIGHT * error[..., 7:].mean()
        )
    return total


def relative_pose_loss(
    predicted: Tensor, true: Tensor, *, shortest_baseline: float = 0.05
) -> Tensor:
    """What relative-pose scores measure, over all ordered pairs of cameras `[B, S, 3, 4]` of a
    scene (S >= 2).

    Chordal distance between relative rotations, ||R - R'|| / sqrt(2), plus that between the
    directions of relative translations; both are close to the angle in radians while it is small.
    Pairs that are nearer than `shortest_baseline` (in units of the scene) have no direction worth
    learning and count by their rotation only.
    """
    rotation, translation = _relative_poses(predicted)
    true_rotation, true_translation = _relative_poses(true)
    turn = (rotation - true_rotation).square().sum((-2, -1)).add(1e-8).sqrt() / math.sqrt(2)
    baseline = true_translation.norm(dim=-1)
    lengthened = (translation.square().sum(-1, keepdim=True) + shortest_baseline**2).sqrt()
    aside = translation / lengthened - true_translation / baseline.clamp(min=1e-6)[..., None]
    direction = aside.square().sum(-1).add(1e-8).sqrt()
    others = ~torch.eye(true.shape[1], dtype=torch.bool, device=true.device).expand(turn.shape)
    return masked_mean(turn, others) + masked_mean(
        direction, others & (baseline > shortest_baseline)
    )


def _relative_poses(extrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations `[B, S, S, 3, 3]` and translations `[B, S, S, 3]` that take camera i (axis 1) to
    camera j (axis 2)."""
    rotation, translation = extrinsics[..., :3], extrinsics[..., 3]
    relative = rotation[:, None] @ rotation[:, :, None].mT
    return relative, translation[:, None] - (relative @ translation[:, :, None, :, None]).squeeze(
        -1
    )


def confident_error(
    error: Tensor, confidence: Tensor, valid: Tensor, *, reward: float = 0.2
) -> Tensor:
    """Confidence-weighted error (Wang et al., "DUSt3R", 2024): c * error - reward * log c.

    The reward is measured from the smallest confidence, 1, so a perfect prediction with c = 1 costs
    nothing.
    """
    return masked_mean(confidence * error - reward * confidence.log(), valid)


def gradient_error(predicted: Tensor, true: Tensor, valid: Tensor) -> Tensor:
    """L1 between horizontal and vertical differences of maps `[..., H, W]` whose two pixels are
    both valid."""
    difference = predicted - true
    across = (difference[..., :, 1:] - difference[..., :, :-1]).abs()
    down = (difference[..., 1:, :] - difference[..., :-1, :]).abs()
    return masked_mean(across, valid[..., :, 1:] & valid[..., :, :-1]) + masked_mean(
        down, valid[..., 1:, :] & valid[..., :-1, :]
    )


def matching_loss(queries: Tensor, keys: Tensor, index: Tensor, visible: Tensor) -> Tensor:
    """InfoNCE (van den Oord et al., 2018): each query `[..., N, D]` against all keys `[..., M, D]`,
    already scaled.

    `index` `[..., N]` is the key that sees the same point; only `visible` queries count.
    """
    log_probability = (queries @ keys.mT).log_softmax(dim=-1)
    return masked_mean(-log_probability.gather(-1, index[..., None]).squeeze(-1), visible)


def attention_matching_loss(
    q: Tensor, k: Tensor, frames: int, patch_start: int, index: Tensor, visible: Tensor
) -> tuple[Tensor, Tensor]:
    """Cross-entropy that pulls attention from a patch to the patch of frame 0 that sees the same
    world point.

    `q`, `k` `[B, heads, S * P, D]` of a global block (frame-major), only the heads to be taught.
    `index`, `visible` `[B, S - 1, N]` are the matches of frames 1.. in frame 0. The probabilities
    are those of the real attention, over all tokens of the scene. Returns the loss and the share of
    visible patches whose strongest patch of frame 0 is the right one (mean over heads).
    """
    batch, heads, tokens, width = q.shape
    per_frame = tokens // frames
    patches = q.view(batch, heads, frames, per_frame, width)[:, :, 1:, patch_start:]
    logits = (patches.flatten(2, 3) @ k.mT) * width**-0.5  # [B, heads, (S - 1) * N, S * P]
    target = index.flatten(1)[:, None].expand(-1, heads, -1)
    mask = visible.flatten(1)[:, None].expand(-1, heads, -1)
    chosen = logits.gather(-1, target[..., None] + patch_start).squeeze(-1)
    loss = masked_mean(logits.logsumexp(dim=-1) - chosen, mask)
    with torch.no_grad():
        right = logits[..., patch_start:per_frame].argmax(dim=-1) == target
        accuracy = masked_mean(right.float(), mask)
    return loss, accuracy
