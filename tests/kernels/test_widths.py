from __future__ import annotations

import pytest
import torch

from kernels import FORMATS, QuantizedLinear, with_wide_activations
from kernels.widths import LayerShape, wide_cost


def test_only_narrower_activations_of_a_weight_with_a_wider_format_can_be_widened() -> None:
    assert {name: with_wide_activations(known) for name, known in FORMATS.items()} == {
        "w8a8": None,
        "w4a8": None,
        "w4a4": FORMATS["w4a8"],
        "w4a16": None,
        "w3a4": None,
        "w2a4": None,
    }


def test_a_layer_with_other_activations_shares_its_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(24, 32, generator=generator)
    layer = QuantizedLinear.from_float(
        FORMATS["w4a4"], weight, activation_clip=torch.tensor([0.8, 0.8])
    )
    wide = layer.with_activations(FORMATS["w4a8"], layer.weight_scale)
    assert wide.weight.data_ptr() == layer.weight.data_ptr()
    x = torch.randn(9, 32, generator=generator)
    exact = x @ (layer.weight_codes() * layer.weight_scale[:, None]).T
    assert (wide(x) - exact).norm() < 0.2 * (layer(x) - exact).norm()


def test_the_cost_is_a_ratio_over_the_layers_that_can_be_widened() -> None:
    narrow = LayerShape(FORMATS["w4a4"], 64, 96, rotated=True, smoothed=True)
    wide = narrow._replace(format=FORMATS["w4a8"])
    assert wide_cost({wide: 3}) == 1.0
    assert wide_cost({narrow: 2, wide: 3}) == pytest.approx(1, abs=0.99)
