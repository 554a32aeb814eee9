from __future__ import annotations

import pytest
import torch

from model import VGGT, VGGTConfig
from model.network.config import (
    CameraHeadConfig,
    DPTHeadConfig,
    TrackHeadConfig,
    VisionTransformerConfig,
)

LAYERS = (0, 0, 1, 1)


def tiny_config() -> VGGTConfig:
    """Every part of a VGGT, a few thousand parameters; widths that can be rotated."""
    dense = {"features": 8, "out_channels": (8, 8, 8, 8), "intermediate_layer_idx": LAYERS}
    return VGGTConfig(
        img_size=56,
        embed_dim=32,
        depth=2,
        num_heads=2,
        patch_embed="dino_vit",
        patch_embed_vit=VisionTransformerConfig(img_size=56, embed_dim=32, depth=1, num_heads=2),
        camera_head=CameraHeadConfig(trunk_depth=1, num_heads=2),
        depth_head=DPTHeadConfig(**dense),
        point_head=DPTHeadConfig(output_dim=4, activation="inv_log", **dense),
        track_head=TrackHeadConfig(
            features=8,
            corr_levels=2,
            corr_radius=1,
            hidden_size=16,
            depth=1,
            num_heads=2,
            out_channels=(8, 8, 8, 8),
            intermediate_layer_idx=LAYERS,
        ),
    )


@pytest.fixture
def config() -> VGGTConfig:
    return tiny_config()


@pytest.fixture
def net(config: VGGTConfig) -> VGGT:
    torch.manual_seed(0)
    network = VGGT(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.1)
    return network.eval()
