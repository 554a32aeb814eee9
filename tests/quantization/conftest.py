"""A network small enough to be calibrated in a second, and pictures for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from model import VGGT, VGGTConfig
from model.network.config import CameraHeadConfig, DPTHeadConfig, VisionTransformerConfig


@pytest.fixture
def net() -> VGGT:
    torch.manual_seed(0)
    network = VGGT(
        VGGTConfig(
            img_size=56,
            embed_dim=32,
            depth=2,
            num_heads=2,
            init_values=1.0,
            patch_embed="dino_vit",
            patch_embed_vit=VisionTransformerConfig(
                img_size=56, embed_dim=32, depth=1, num_heads=2, init_values=1.0
            ),
            camera_head=CameraHeadConfig(trunk_depth=1, num_heads=2, init_values=1.0),
            depth_head=DPTHeadConfig(
                features=8, out_channels=(8, 8, 8, 8), intermediate_layer_idx=(0, 0, 1, 1)
            ),
            point_head=None,
            track_head=None,
        )
    )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "token" in name or name.endswith(
                ("norm.weight", "norm1.weight", "norm2.weight", "bias", "gamma")
            ):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network.eval().requires_grad_(False)


@pytest.fixture
def pictures() -> list[Tensor]:
    """Three samples of two frames, one of another shape."""
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(2, 3, height, 28, generator=generator) for height in (28, 28, 42)]


@pytest.fixture
def checkpoint(net: VGGT, tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    save_file(net.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(net.config.to_dict()))
    return folder
