"""Depth errors after one scale per scene (AbsRel and delta < 1.25)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

DELTA_THRESHOLD = 1.25


@dataclass(frozen=True)
class DepthErrors:
    """Errors of one scene after scale alignment; all but `scale` and `pixels` are shares without a
    unit."""

    abs_rel: float  # mean of |scale * predicted - true| / true
    delta: float  # share of pixels with max(ratio, 1 / ratio) < 1.25
    scale: float  # factor that was applied to the prediction
    pixels: int  # how many pixels were compared


def depth_errors(predicted: Tensor, true: Tensor, valid: Tensor | None = None) -> DepthErrors:
    """AbsRel and delta < 1.25 of a scene.

    `predicted`, `true`: any equal shape, usually [S, H, W]. `valid`: bool of that shape, further
    restricting the pixels whose true depth is finite and positive. A network's scale may be free:
    the prediction is multiplied by the median of true / predicted over all valid pixels of all
    frames: one scale for the whole scene, so that frames which disagree in scale are punished. A
    scale is positive: pixels that are predicted at or behind the camera have no part in it, and are
    wrong under any; if there are no others it is 1.
    Raises ValueError if no pixel has ground truth or a prediction is not finite.
    """
    if predicted.shape != true.shape:
        raise ValueError(
            f"depths must have one shape, got {tuple(predicted.shape)} and {tuple(true.shape)}"
        )
    mask = true.isfinite() & (true > 0)
    if valid is not None:
        mask = mask & valid
    if not bool(mask.any()):
        raise ValueError(
            "no valid ground truth: every true depth is zero, not finite or masked out"
        )
    p, t = predicted[mask].double(), true[mask].double()
    if not bool(p.isfinite().all()):
        raise ValueError(
            f"predicted depth is not finite at {int((~p.isfinite()).sum())} of {p.numel()} valid "
            "pixels"
        )
    # torch's median takes the lower of the two middle values
    ahead = p > 0
    scale = float(np.median((t / p)[ahead].cpu().numpy())) if bool(ahead.any()) else 1.0
    p = p * scale
    ratio = torch.maximum(p / t, t / p)
    delta = ((p > 0) & (ratio < DELTA_THRESHOLD)).double().mean()
    return DepthErrors(float(((p - t).abs() / t).mean()), float(delta), scale, p.numel())


def constant_depth_errors(true: Tensor, valid: Tensor | None = None) -> DepthErrors:
    """Errors of the predictor that answers one depth everywhere: what a reader should compare a
    model with."""
    return depth_errors(torch.ones_like(true), true, valid)
