from __future__ import annotations

import pytest
import torch

from model.families.depth_anything_3.config import DepthAnything3Config
from model.families.depth_anything_3.network import DepthAnything3


def tiny(kind: str = "any-view") -> DepthAnything3Config:
    """Every part of a network, a few thousand parameters; widths that can be rotated."""
    any_view = kind == "any-view"
    return DepthAnything3Config(
        kind=kind,
        img_size=56,
        embed_dim=32,
        depth=6,
        num_heads=2,
        alt_start=2 if any_view else None,
        out_layers=(2, 3, 4, 5),
        features=8,
        out_channels=(8, 8, 8, 8),
        camera_encoder_heads=4,
        heads=("camera", "depth") if any_view else ("depth",),
    )


def filled(config: DepthAnything3Config) -> DepthAnything3:
    """A network with every parameter random."""
    torch.manual_seed(0)
    net = DepthAnything3(config)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.1)
    return net.eval()


@pytest.fixture
def net() -> DepthAnything3:
    return filled(tiny())
