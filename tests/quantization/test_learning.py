from __future__ import annotations

import torch
from torch import nn

from kernels import FORMATS
from quantization.layer import Observed, quantize_layer, rotation_signs
from quantization.learning import SimulatedLinear, learn_block
from quantization.recipe import Recipe

W4A4 = FORMATS["w4a4"]


def _layer(width: int = 64) -> tuple[nn.Linear, torch.Tensor]:
    torch.manual_seed(0)
    layer = nn.Linear(width, 24).requires_grad_(False)
    return layer, rotation_signs(width, "layer", 0)


def test_the_simulated_layer_rounds_as_the_integer_one() -> None:
    layer, signs = _layer()
    simulated = SimulatedLinear(layer, W4A4, signs, torch.rand(64) + 0.5)
    x = torch.randn(2, 7, 64)
    quantised = quantize_layer(
        layer.weight, layer.bias, W4A4, Recipe(), signs, learned=simulated.learned()
    )
    torch.testing.assert_close(simulated(x).detach(), quantised(x), atol=1e-4, rtol=1e-4)


def test_learning_lowers_the_error_and_changes_all_three_parameters() -> None:
    layer, signs = _layer()
    block = nn.Sequential(layer)
    samples = [torch.randn(2, 40, 64) * torch.logspace(-1, 0.5, 64) for _ in range(4)]
    targets = [block(sample) for sample in samples]
    start = torch.ones(64)
    found = learn_block(
        block, {"0": (W4A4, signs, start)}, targets, lambda m, i: m(samples[i]), epochs=10
    )["0"]
    assert found.smoothing is not None
    assert found.weight_clip is not None
    assert found.activation_clip is not None
    assert not torch.equal(found.smoothing, start)
    assert found.weight_clip.std() > 0
    before = quantize_layer(layer.weight, layer.bias, W4A4, Recipe(), signs)
    after = quantize_layer(layer.weight, layer.bias, W4A4, Recipe(), signs, learned=found)

    def error(quantised: nn.Module) -> float:
        return sum(
            float((quantised(s) - t).square().sum()) for s, t in zip(samples, targets, strict=True)
        )

    assert error(after) < error(before)
    assert isinstance(block[0], nn.Linear), "the float block is left as it was"


def test_learned_transforms_take_the_place_of_statistics() -> None:
    layer, signs = _layer()
    simulated = SimulatedLinear(layer, W4A4, signs, torch.full((64,), 2.0))
    inputs = [torch.randn(2, 9, 64)]
    recipe = Recipe(smooth=True, clip_weights=True, clip_activations=True)
    quantised = quantize_layer(
        layer.weight, layer.bias, W4A4, recipe, signs, Observed(inputs, inputs), simulated.learned()
    )
    assert quantised.smoothing is not None
    assert quantised.activation_clip is not None
    assert quantised.smoothing.tolist() == [2.0] * 64
    torch.testing.assert_close(quantised.activation_clip, torch.full((2,), 4.0).sigmoid())
