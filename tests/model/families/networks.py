"""Tiny networks of every family, with every parameter random and widths that can be rotated."""

from __future__ import annotations

from collections.abc import Callable

import torch

from model import families
from model.families.depth_anything_3.config import DepthAnything3Config
from model.families.pi3.config import ConvHeadConfig, Pi3Config
from model.network.config import NetworkConfig
from model.network.network import Network
from tests.model.conftest import tiny_config


def depth_anything_3(kind: str = "any-view", gated: bool = False) -> DepthAnything3Config:
    any_view = kind == "any-view"
    return DepthAnything3Config(
        kind=kind,
        img_size=56,
        embed_dim=32,
        depth=6,
        num_heads=2,
        # the width of a gated feed-forward is rounded to one that can be rotated
        mlp_ratio=3.0 if gated else 4.0,
        alt_start=2 if any_view else None,
        gated=gated,
        out_layers=(2, 3, 4, 5),
        features=8,
        out_channels=(8, 8, 8, 8),
        camera_encoder_heads=4,
        heads=("camera", "depth") if any_view else ("depth",),
    )


def pi3(conv: bool = False) -> Pi3Config:
    return Pi3Config(
        img_size=56,
        embed_dim=32,
        encoder_depth=1,
        encoder_heads=2,
        decoder_depth=4,
        decoder_heads=2,
        head_dim=32,
        head_depth=1,
        head_heads=2,
        camera_dim=16,
        metric_dim=16,
        metric_heads=2,
        conv_head=ConvHeadConfig((16, 16, 16), 1, 8) if conv else None,
        heads=("camera", "depth", "metric") if conv else ("camera", "depth"),
    )


def filled(config: NetworkConfig, std: float = 0.1) -> Network:
    torch.manual_seed(0)
    net = families.of(config).build(config)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.normal_(std=std)
            if "norm" in name and name.endswith("weight"):
                parameter += 1
    return net.eval().requires_grad_(False)


TINY: dict[str, Callable[[], Network]] = {
    "vggt": lambda: filled(tiny_config()),
    "any-view": lambda: filled(depth_anything_3()),
    "gated": lambda: filled(depth_anything_3(gated=True)),
    "mono": lambda: filled(depth_anything_3("mono")),
    "pi3": lambda: filled(pi3()),
    "pi3x": lambda: filled(pi3(conv=True)),
}
