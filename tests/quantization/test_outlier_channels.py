from __future__ import annotations

import torch
from torch import Tensor

from model import VGGT
from quantization.outlier_channels import with_outliers


def test_the_function_is_unchanged_and_the_tails_are_not(net: VGGT) -> None:
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    heavy = with_outliers(net)
    peaks = []
    for network in (net, heavy):
        layer = network.aggregator.global_blocks[1].attn.qkv

        def look(_: object, given: tuple[Tensor, ...]) -> None:
            rows = given[0].flatten(0, -2)
            peaks.append(float(rows.abs().max() / rows.square().mean().sqrt()))

        with torch.no_grad():
            handle = layer.register_forward_pre_hook(look)
            answer = network(images)
            handle.remove()
        if network is net:
            expected = answer
    torch.testing.assert_close(answer.depth, expected.depth, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(answer.pose_enc, expected.pose_enc, atol=1e-3, rtol=1e-3)
    assert peaks[1] > 1.2 * peaks[0]


def test_the_network_is_left_as_it_was(net: VGGT) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with_outliers(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
