"""Starting weights for a small VGGT that is trained from scratch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from model import VGGT
from model.network.vision_transformer import VisionTransformer


def fourier_positions(
    side: int, dim: int, *, amplitude: float = 0.7, bandwidth: float = 3.0
) -> Tensor:
    """Smooth random position table `[side * side, dim]`, row-major: cosines of random planar waves.

    `bandwidth` is the standard deviation of the angular frequency in radians per half image.
    """
    axis = (2 * torch.arange(side) + 1) / side - 1
    grid = torch.cartesian_prod(axis, axis)
    waves = bandwidth * torch.randn(2, dim)
    return amplitude * torch.cos(grid @ waves + 2 * math.pi * torch.rand(dim))


def initialise(net: VGGT) -> None:
    """Overwrites the starting weights, from the global random generator.

    LayerScale keeps the preset's value. The special tokens start at 0.1 instead of the public 1e-6:
    from there a short run does not get to tell the first camera from the others.
    """
    aggregator = net.aggregator
    for module in aggregator.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    with torch.no_grad():
        aggregator.camera_token.normal_(std=0.1)
        aggregator.register_token.normal_(std=0.1)
        encoder = aggregator.patch_embed
        if isinstance(encoder, VisionTransformer):
            encoder.cls_token.normal_(std=0.1)
            encoder.register_tokens.normal_(std=0.1)
            encoder.pos_embed[0, 1:] = fourier_positions(
                encoder.table_side, encoder.pos_embed.shape[-1]
            )
