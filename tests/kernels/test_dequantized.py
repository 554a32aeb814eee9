from __future__ import annotations

import pytest
import torch
from torch import nn

from kernels import FORMATS, DequantizedLinear, QuantizedLinear, reference


def _layer(width: int, rotated: bool = True, smoothed: bool = True) -> QuantizedLinear:
    generator = torch.Generator().manual_seed(width)
    signs = (2 * torch.randint(0, 2, (width,), generator=generator) - 1).to(torch.int8)
    return QuantizedLinear.from_float(
        FORMATS["w8a8"],
        torch.randn(24, width, generator=generator),
        torch.randn(24, generator=generator),
        signs=signs if rotated else None,
        smoothing=torch.rand(width, generator=generator) + 0.5 if smoothed else None,
    )


@pytest.mark.parametrize("smoothed", [False, True])
@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("width", [64, 48, 40])  # a power of two, 12 and 20 times one
def test_a_transformed_weight_is_restored(width: int, rotated: bool, smoothed: bool) -> None:
    layer, weight = _layer(width, rotated, smoothed), torch.randn(8, width)
    there = reference.transform_weight(weight, layer.signs, layer.smoothing)
    back = reference.restore_weight(there, layer.signs, layer.smoothing)
    torch.testing.assert_close(back, weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [64, 48])
def test_a_dequantised_layer_gives_what_the_quantised_one_does(width: int) -> None:
    layer = _layer(width)
    floats = DequantizedLinear(layer)
    assert floats.weight.dtype == torch.bfloat16
    x = torch.randn(5, width)
    assert (floats(x) - layer(x)).norm() < 0.02 * layer(x).norm()


@torch.inference_mode()
def test_what_surrounds_a_layer_surrounds_its_floats() -> None:
    width = 64
    layer = _layer(width)
    floats = DequantizedLinear(layer)
    norm = nn.LayerNorm(width)
    residual, scale = torch.randn(2, 5, 24), torch.rand(24)
    x = torch.randn(2, 5, width)
    around = {"layer_scale": scale, "residual": residual.half(), "dtype": torch.float16}
    for given, tokens in (
        ({"norm": norm, **around}, x),
        ({"gelu": True}, x),
        ({"gated": True}, torch.randn(2, 5, 2 * width)),
        ({"outputs": slice(3, 9)}, x.bfloat16()),
        ({"outputs": torch.tensor([1, 20])}, x),
    ):
        expected, got = layer(tokens, **given), floats(tokens, **given)
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
        assert (got - expected).float().norm() < 0.03 * expected.float().norm()
