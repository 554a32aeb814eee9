"""Named network shapes: the public checkpoint's, and the small one that this project trains and
bundles."""

from __future__ import annotations

from dataclasses import replace

from model.families.vggt.config import VGGTConfig
from model.network.config import CameraHeadConfig, DPTHeadConfig, VisionTransformerConfig

_DEMO_DPT = DPTHeadConfig(
    features=32, out_channels=(32, 48, 64, 64), intermediate_layer_idx=(0, 1, 2, 3)
)

PRESETS: dict[str, VGGTConfig] = {
    "vggt-1b": VGGTConfig(),
    "demo": VGGTConfig(
        img_size=96,
        patch_size=12,
        embed_dim=128,
        depth=4,
        num_heads=4,
        init_values=1.0,
        patch_embed="dino_vit",
        patch_embed_vit=VisionTransformerConfig(
            img_size=96, patch_size=12, embed_dim=128, depth=2, num_heads=4, init_values=1.0
        ),
        camera_head=CameraHeadConfig(trunk_depth=2, num_heads=8, init_values=1.0),
        depth_head=_DEMO_DPT,
        point_head=replace(_DEMO_DPT, output_dim=4, activation="inv_log"),
        track_head=None,
    ),
}
