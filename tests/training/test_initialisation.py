from __future__ import annotations

import torch

from model import VGGT, VGGTConfig
from model.network.vision_transformer import VisionTransformer
from training.initialisation import fourier_positions, initialise


def test_neighbouring_positions_are_alike_and_distant_ones_differ() -> None:
    torch.manual_seed(0)
    table = fourier_positions(8, 512).view(8, 8, -1)
    near = (table[:, 1:] - table[:, :-1]).norm(dim=-1).mean()
    far = (table[0, 0] - table[7, 7]).norm()
    assert table.abs().max() <= 0.7
    assert near < 0.6 * far


def test_special_tokens_start_visible_and_the_first_camera_differs(
    tiny_network: VGGTConfig,
) -> None:
    torch.manual_seed(0)
    net = VGGT(tiny_network)
    initialise(net)
    first, other = net.aggregator.camera_token[0]
    assert (first - other).abs().max() > 0.01
    encoder = net.aggregator.patch_embed
    assert isinstance(encoder, VisionTransformer)
    assert encoder.pos_embed[0, 1:].std() > 0.3
