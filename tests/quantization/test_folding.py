from __future__ import annotations

import pytest
import torch

from model.network.transformer import Block
from quantization.folding import centred, fold_layer_scales, fold_means, fold_norms


@pytest.fixture
def block() -> Block:
    torch.manual_seed(0)
    block = Block(32, 2, init_values=0.5, qk_norm=True)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return block.requires_grad_(False)


def test_folding_leaves_the_block_as_it_was(block: Block) -> None:
    x = torch.randn(2, 9, 32)
    expected = block(x)
    fold_norms(block)
    torch.testing.assert_close(block(x), expected, atol=1e-4, rtol=1e-4)
    fold_layer_scales(block)
    torch.testing.assert_close(block(x), expected, atol=1e-4, rtol=1e-4)
    fold_means(block, {name: torch.randn(32) for name in centred(block)})
    torch.testing.assert_close(block(x), expected, atol=1e-4, rtol=1e-4)


def test_what_is_folded_away_does_nothing_any_more(block: Block) -> None:
    fold_norms(block)
    fold_layer_scales(block)
    for parameter in (block.norm1.weight, block.norm2.weight, block.ls1.gamma, block.ls2.gamma):
        assert torch.equal(parameter, torch.ones_like(parameter))
    assert not block.norm1.bias.any()


def test_means_are_taken_off_the_inputs(block: Block) -> None:
    x = torch.randn(2, 9, 32) + 1
    inputs = {}
    for name in centred(block):
        layer = block.get_submodule(name)
        layer.register_forward_pre_hook(
            lambda _, given, name=name: inputs.__setitem__(name, given[0].flatten(0, -2))
        )
    block(x)
    fold_means(block, {name: rows.mean(dim=0) for name, rows in inputs.items()})
    block(x)
    for name in centred(block):
        assert inputs[name].mean(dim=0).abs().max() < 1e-5, name
