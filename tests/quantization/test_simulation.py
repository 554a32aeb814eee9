from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kernels import QuantizedLinear
from model import VGGT
from quantization.convert import quantize_network
from quantization.recipe import RECIPES
from quantization.simulation import FakeQuantLinear, simulate


@pytest.mark.parametrize("recipe", ["quarot", "best"])
def test_a_float_simulation_agrees_with_the_integers_to_rounding(
    net: VGGT, pictures: list[Tensor], recipe: str
) -> None:
    quantized = quantize_network(net, RECIPES[recipe], pictures)
    simulated = simulate(quantized)
    layers = [
        name for name, module in quantized.named_modules() if isinstance(module, QuantizedLinear)
    ]
    assert all(isinstance(simulated.get_submodule(name), FakeQuantLinear) for name in layers)
    with torch.no_grad():
        exact, ours, theirs = (
            network(pictures[0]).depth for network in (net, quantized, simulated)
        )
    distance = (ours - theirs).norm()
    assert distance < 0.02 * (ours - exact).norm(), (
        "a flipped tie moves little, rounding itself much more"
    )
