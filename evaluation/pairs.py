"""Pairs of frames scored by how far the camera turned between them, beside a predictor that does
not look.

One AUC over all pairs of a recording tells little: pairs that turn little are easy, those that turn
much may see nothing in common, and an answer of "no rotation, sideways" already scores where people
walk past things.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from evaluation.pose_metrics import pose_auc, relative_pose_errors
from model.families.family import Geometry
from model.rotations import rotation_angle

Network = Callable[[Tensor], Geometry]

BUCKETS = ((0.0, 10.0), (10.0, 20.0), (20.0, 40.0), (40.0, 180.0))
"""Degrees of true rotation, [low, high), the last one closed."""
THRESHOLD = 30


@dataclass(frozen=True)
class PairErrors:
    """P pairs, degrees: their true rotation, and the errors of rotation and of translation
    direction, each [P]."""

    turn: Tensor
    rotation: Tensor
    translation: Tensor

    def between(self, low: float, high: float) -> PairErrors:
        """The pairs that turn by at least `low` and less than `high` degrees (180 included)."""
        inside = (self.turn >= low) & ((self.turn < high) | (high >= 180))
        return PairErrors(self.turn[inside], self.rotation[inside], self.translation[inside])

    def summary(self) -> dict[str, float | int | None]:
        """AUC@30 in percent, median errors in degrees, number of pairs; None where there is no
        pair."""
        pairs = len(self.turn)
        if pairs == 0:
            return {"pairs": 0, "auc_30": None, "rotation_deg": None, "translation_deg": None}
        return {
            "pairs": pairs,
            "auc_30": round(pose_auc(self.rotation, self.translation, THRESHOLD), 2),
            "rotation_deg": round(float(self.rotation.quantile(0.5)), 2),
            "translation_deg": round(float(self.translation.quantile(0.5)), 2),
        }


def all_pairs(frames: int) -> Tensor:
    """Indices [frames * (frames - 1) / 2, 2] of all pairs i < j."""
    return torch.tensor(list(combinations(range(frames), 2)))


def predict_pairs(net: Network, images: Tensor) -> Tensor:
    """Cameras [P, 2, 3, 4] that `net` finds for `images` [P, 2, 3, H, W], each pair by itself."""
    cameras = []
    for pair in images:
        extrinsics = net(pair).extrinsics
        if extrinsics is None:
            raise ValueError("the network has no camera head; evaluation scores its poses")
        cameras.append(extrinsics)
    return torch.stack(cameras)


def sideways(pairs: int) -> Tensor:
    """What the predictor that does not look says: no rotation, a step to the side. Cameras [pairs,
    2, 3, 4]."""
    cameras = torch.eye(3, 4, dtype=torch.float64).repeat(pairs, 2, 1, 1)
    cameras[:, 1, 0, 3] = 1.0
    return cameras


def pair_errors(predicted: Tensor, true: Tensor) -> PairErrors:
    """Errors of cameras [P, 2, 3, 4], world-to-camera."""
    rotation, translation = relative_pose_errors(predicted, true)
    return PairErrors(
        rotation_angle(true[:, 0, :, :3], true[:, 1, :, :3]), rotation[:, 0], translation[:, 0]
    )


def by_turn(errors: PairErrors) -> dict[str, dict[str, float | int | None]]:
    """A summary for every bucket and for all pairs."""
    found = {label(low, high): errors.between(low, high).summary() for low, high in BUCKETS}
    return found | {"all": errors.summary()}


def label(low: float, high: float) -> str:
    """How a bucket is called in tables."""
    return f"> {low:g}" if high >= 180 else f"{low:g}-{high:g}"
