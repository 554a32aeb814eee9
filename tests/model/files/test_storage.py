from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from model.files.storage import encode, keep_in_8_bits, kept_codes
from model.network.dpt_head import Conv2d, ConvTranspose2d


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(8, 5), Conv2d(3, 5, 3), ConvTranspose2d(4, 4, 2, stride=2)],
    ids=["linear", "conv", "transposed"],
)
def test_a_layer_computes_with_what_its_codes_stand_for(layer: nn.Module) -> None:
    torch.manual_seed(0)
    layer = copy.deepcopy(layer).requires_grad_(False)
    exact = layer.get_parameter("weight").clone()
    codes, scale = encode(exact)
    keep_in_8_bits(layer, codes, scale)
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    assert ((weight - exact).abs() <= 0.5001 * scale.view(-1, *[1] * (exact.dim() - 1))).all()
    x = torch.randn(2, 8) if isinstance(layer, nn.Linear) else torch.randn(2, exact.shape[1], 6, 6)
    assert layer(x).isfinite().all()


def test_only_a_byte_an_element_stays_in_memory() -> None:
    layer = nn.Linear(256, 64, bias=False).requires_grad_(False)
    keep_in_8_bits(layer, *encode(layer.weight))
    assert sum(parameter.nbytes for parameter in layer.parameters()) == 256 * 64 + 4 * 64


def test_the_codes_come_back_as_they_were_given() -> None:
    layer = nn.Linear(16, 4).requires_grad_(False)
    codes, scale = encode(layer.weight)
    keep_in_8_bits(layer, codes, scale)
    kept = kept_codes(copy.deepcopy(layer))
    assert kept is not None
    assert torch.equal(kept[0], codes)
    assert torch.equal(kept[1], scale)
    assert kept_codes(nn.Linear(2, 2)) is None
