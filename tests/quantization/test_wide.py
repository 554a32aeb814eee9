from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from kernels import FORMATS, QuantizedLinear
from quantization.layer import Observed, quantize_layer, rotation_signs
from quantization.recipe import RECIPES, Recipe
from quantization.wide import widened

BEST = replace(RECIPES["best"], fold=False)


def _layers(recipe: Recipe) -> tuple[Tensor, Tensor, Observed, QuantizedLinear, QuantizedLinear]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(48, 64, generator=generator)
    bias = torch.randn(48, generator=generator)
    mixing = torch.randn(64, 64, generator=generator) / 8 + 0.2
    samples = [torch.randn(2, 120, 64, generator=generator) @ mixing for _ in range(6)]
    observed = Observed(samples, samples)
    signs = rotation_signs(64, "layer", 0)
    narrow = quantize_layer(weight, bias, FORMATS["w4a4"], recipe, signs, observed)
    return weight, bias, observed, narrow, widened(narrow, weight, bias, observed, recipe)


def test_a_layer_is_made_for_8_bit_activations_with_the_same_codes() -> None:
    weight, bias, observed, narrow, wide = _layers(BEST)
    assert wide.format == FORMATS["w4a8"]
    assert wide.weight.data_ptr() == narrow.weight.data_ptr()
    rows = torch.cat([sample.flatten(0, 1) for sample in observed.seen])
    true = rows @ weight.T + bias

    def error(layer: QuantizedLinear) -> float:
        return float((layer(rows) - true).norm())

    unchanged = narrow.with_activations(FORMATS["w4a8"], narrow.weight_scale, narrow.bias)
    assert error(wide) < error(unchanged) < error(narrow)


def test_the_mean_output_is_that_of_the_float_layer() -> None:
    weight, bias, observed, _, wide = _layers(BEST)
    rows = torch.cat([sample.flatten(0, 1) for sample in observed.seen])
    mean = (rows @ weight.T + bias).mean(dim=0)
    torch.testing.assert_close(wide(rows).mean(dim=0), mean, atol=1e-3, rtol=1e-3)


def test_without_correction_scale_and_bias_stay() -> None:
    _, bias, _, narrow, wide = _layers(replace(BEST, correct=False))
    assert torch.equal(wide.weight_scale, narrow.weight_scale)
    assert wide.bias is not None
    assert torch.equal(wide.bias, bias)
