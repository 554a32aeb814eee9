from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from model.files.storage import encode, keep_in_8_bits, kept_codes, multiply_out
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


class _Network(nn.Module):
    """A convolution in bfloat16, a layer in float32, and one that no pass uses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last, self.unused = Conv2d(3, 64, 3), nn.Linear(64, 5), nn.Linear(64, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.conv(x.bfloat16())
        y: torch.Tensor = self.last(maps.flatten(2).transpose(1, 2).float())
        return y


@pytest.fixture
def network() -> _Network:
    torch.manual_seed(0)
    net = _Network().requires_grad_(False)
    for layer in (net.conv, net.last, net.unused):
        keep_in_8_bits(layer, *encode(layer.weight))
    return net


def test_weights_are_multiplied_out_once_in_the_type_of_their_inputs_and_keep_all_bits(
    network: _Network,
) -> None:
    x = torch.randn(1, 3, 6, 6)
    expected = network(x)
    multiply_out(network, None, lambda: network(x))
    assert torch.equal(network(x), expected)
    assert network.conv.weight.dtype == torch.bfloat16
    assert network.last.weight.dtype == torch.float32
    assert kept_codes(network.conv) is kept_codes(network.last) is None
    assert kept_codes(network.unused) is not None


def test_multiplied_weights_take_no_more_memory_than_they_may(network: _Network) -> None:
    x = torch.randn(1, 3, 6, 6)
    expected = network(x)
    multiply_out(network, 2 * 64 * 27 + 10, lambda: network(x))
    assert kept_codes(network.conv) is None
    assert kept_codes(network.last) is not None
    assert torch.equal(network(x), expected)
