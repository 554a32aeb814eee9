"""The quantised network simulated in floating point, as published code has it: a check on the
integers."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import QuantizedLinear, reference
from model.network.network import Network


class FakeQuantLinear(nn.Module):
    """A float linear layer whose weight and input have been rounded and scaled back; no integer
    product."""

    def __init__(self, layer: QuantizedLinear) -> None:
        super().__init__()
        self.layer = layer
        self.weight = layer.weight_codes().float() * layer.weight_scale[:, None]

    def forward(self, x: Tensor) -> Tensor:
        seen = reference.transform_activation(x, self.layer.signs, self.layer.smoothing)
        number_format = self.layer.format
        if number_format.rounds_activations:
            bits, clip = number_format.activation_bits, self.layer.activation_clip
            codes, scale = reference.quantize_activation(seen, bits, clip)
            seen = codes * scale
        return F.linear(seen, self.weight, self.layer.bias).to(x.dtype)


@torch.no_grad()
def simulate(net: Network) -> Network:
    """A copy of a quantised network that computes in float what `net` computes in integers."""
    simulated = copy.deepcopy(net)
    for name, module in list(simulated.named_modules()):
        if isinstance(module, QuantizedLinear):
            simulated.set_submodule(name, FakeQuantLinear(module))
    return simulated
