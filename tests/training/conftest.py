"""A network and a run small enough to train in a second."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model import VGGTConfig
from model.families.vggt.presets import PRESETS
from model.network.config import CameraHeadConfig, DPTHeadConfig, VisionTransformerConfig
from training import TrainingConfig
from training.batches import BatchConfig

DPT = DPTHeadConfig(features=8, out_channels=(8, 8, 8, 8), intermediate_layer_idx=(0, 0, 1, 1))
TINY_NETWORK = VGGTConfig(
    img_size=24,
    patch_size=12,
    embed_dim=16,
    depth=2,
    num_heads=2,
    init_values=1.0,
    patch_embed="dino_vit",
    patch_embed_vit=VisionTransformerConfig(
        img_size=24, patch_size=12, embed_dim=16, depth=1, num_heads=2, init_values=1.0
    ),
    camera_head=CameraHeadConfig(trunk_depth=1, num_heads=2, init_values=1.0, num_iterations=2),
    depth_head=DPT,
    point_head=replace(DPT, output_dim=4, activation="inv_log"),
    track_head=None,
)
BATCHES = BatchConfig(
    frames_per_step=4, pool_frames=8, reuse=2, sizes=((24, 24), (24, 36)), size_weights=(0.5, 0.5)
)


@pytest.fixture
def tiny_network() -> VGGTConfig:
    return TINY_NETWORK


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> TrainingConfig:
    monkeypatch.setitem(PRESETS, "tiny", TINY_NETWORK)
    return TrainingConfig(preset="tiny", steps=6, processes=1, batches=BATCHES, validation_scenes=2)
