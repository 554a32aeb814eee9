"""A cheap score during training: relative poses and depth on fixed two-view scenes of the
calibration split."""

from __future__ import annotations

import torch
from torch import Tensor

from evaluation.pose_metrics import pose_auc, relative_pose_errors
from model import VGGT
from model.families.vggt.cameras import pose_encoding_to_cameras
from scenes.scene import SceneBatch
from scenes.synthetic.distribution import STANDARD, SceneDistribution
from scenes.synthetic.generator import render_batch

_FIRST_SEED = 7_000_000  # far from what calibration itself draws


def validation_scenes(
    count: int,
    size: tuple[int, int],
    distribution: SceneDistribution = STANDARD,
    device: torch.device | str = "cpu",
) -> SceneBatch:
    """`count` two-view scenes, the same ones for every run; never of the test split."""
    seeds = range(_FIRST_SEED, _FIRST_SEED + count)
    height, width = size
    batch = render_batch(
        seeds,
        split="calibration",
        num_views=2,
        height=height,
        width=width,
        device=device,
        distribution=distribution,
    )
    return batch.normalised()


@torch.inference_mode()
def validate(net: VGGT, scenes: SceneBatch, chunk: int = 16) -> dict[str, float]:
    """Median rotation and translation-direction errors (degrees), AUC@30 (percent) and depth
    AbsRel.

    AbsRel is taken after one scale per scene, the ratio of median depths.
    """
    height, width = scenes.images.shape[-2:]
    extrinsics, depths = [], []
    for images in torch.split(scenes.images, chunk):
        prediction = net(images)
        assert prediction.pose_enc is not None
        assert prediction.depth is not None
        extrinsics.append(pose_encoding_to_cameras(prediction.pose_enc, (height, width))[0])
        depths.append(prediction.depth.squeeze(-1))
    rotation, translation = relative_pose_errors(torch.cat(extrinsics), scenes.extrinsics)
    return {
        "rotation_deg": float(rotation.median()),
        "translation_deg": float(translation.median()),
        "auc_30": pose_auc(rotation, translation, 30),
        "depth_abs_rel": _absolute_relative_error(torch.cat(depths), scenes.depth),
    }


def _absolute_relative_error(predicted: Tensor, true: Tensor) -> float:
    errors = []
    for p, t in zip(predicted.flatten(1), true.flatten(1), strict=True):
        p, t = p[t > 0], t[t > 0]
        errors.append(((p * (t.median() / p.median()) - t).abs() / t).mean())
    return float(torch.stack(errors).mean())
