from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from model.families.vggt.cameras import cameras_to_pose_encoding
from model.network.prediction import Prediction
from training.validation import validate, validation_scenes


class Oracle(nn.Module):
    """Answers with the ground truth of the scenes it was given, up to a scale of depth."""

    def __init__(self, pose_enc: Tensor, depth: Tensor) -> None:
        super().__init__()
        self.pose_enc, self.depth = pose_enc, depth

    def forward(self, images: Tensor) -> Prediction:
        return Prediction(pose_enc=self.pose_enc, depth=3 * self.depth[..., None])


def test_the_truth_scores_perfectly() -> None:
    scenes = validation_scenes(4, (24, 24))
    oracle = Oracle(
        cameras_to_pose_encoding(scenes.extrinsics, scenes.intrinsics, (24, 24)), scenes.depth
    )
    scores = validate(oracle, scenes)  # type: ignore[arg-type]
    assert scores["rotation_deg"] < 0.1
    assert scores["translation_deg"] < 0.1
    assert scores["auc_30"] == pytest.approx(100)
    assert scores["depth_abs_rel"] < 1e-5


def test_validation_scenes_are_fixed_pairs() -> None:
    first, second = validation_scenes(2, (24, 36)), validation_scenes(2, (24, 36))
    assert first.images.shape == (2, 2, 3, 24, 36)
    assert torch.equal(first.images, second.images)
