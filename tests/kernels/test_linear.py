from __future__ import annotations

import pytest
import torch

from kernels import FORMATS, QuantizedLinear, reference
from tests.kernels.rounded import rounded_input

W4A4 = FORMATS["w4a4"]

# qkv, proj, fc1, fc2 of the demo model, and the odd width of a small vision transformer
SHAPES = [(128, 384), (128, 128), (128, 512), (512, 128), (96, 40)]


def _float_layer(features_in: int, features_out: int) -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(features_in, features_out)


def _signs(width: int) -> torch.Tensor:
    return (2 * torch.randint(0, 2, (width,), generator=torch.Generator().manual_seed(1)) - 1).to(
        torch.int8
    )


def _relative_error(layer: QuantizedLinear, linear: torch.nn.Linear, x: torch.Tensor) -> float:
    with torch.no_grad():
        exact = linear(x)
        return float((layer(x) - exact).norm() / exact.norm())


@pytest.mark.parametrize(("features_in", "features_out"), SHAPES)
@pytest.mark.parametrize("scheme", ["w4a4", "w4a8", "w8a8"])
def test_output_is_the_dequantised_product(
    scheme: str, features_in: int, features_out: int
) -> None:
    linear = _float_layer(features_in, features_out)
    layer = QuantizedLinear.from_float(
        FORMATS[scheme], linear.weight.detach(), linear.bias.detach(), signs=_signs(features_in)
    )
    x = torch.randn(2, 9, features_in)
    codes, scale = rounded_input(layer, x)
    weight = layer.weight_codes().double() * layer.weight_scale.double()[:, None]
    expected = (codes.double() * scale.double()) @ weight.T + linear.bias.detach().double()
    torch.testing.assert_close(layer(x).double(), expected, atol=1e-5, rtol=1e-5)


def test_a_weight_only_layer_keeps_its_activations_in_float() -> None:
    linear = _float_layer(512, 128)
    layer = QuantizedLinear.from_float(
        FORMATS["w4a16"], linear.weight.detach(), linear.bias.detach(), signs=_signs(512)
    )
    x = torch.randn(2, 9, 512)
    weight = layer.weight_codes().double() * layer.weight_scale.double()[:, None]
    expected = reference.rotate(x, _signs(512)).double() @ weight.T + linear.bias.detach().double()
    torch.testing.assert_close(layer(x).double(), expected, atol=1e-5, rtol=1e-5)


def test_what_stands_around_a_layer_may_be_given_along() -> None:
    layer = QuantizedLinear.from_float(
        FORMATS["w4a8"], torch.randn(96, 128), torch.randn(96), signs=_signs(128)
    )
    norm = torch.nn.LayerNorm(128)
    gamma, residual, x = torch.randn(96), torch.randn(5, 96), torch.randn(5, 128)
    with torch.no_grad():
        fused = layer(x, norm=norm, gelu=True, layer_scale=gamma, residual=residual)
        apart = residual + gamma * layer(torch.nn.functional.gelu(norm(x)))
        step = (
            layer.weight_scale.amax()
            * 8
            * gamma.abs().amax()
            * rounded_input(layer, norm(x))[1].amax()
        )
    # one code may differ where a value lies on a rounding edge
    assert (fused - apart).abs().amax() < step


def test_more_bits_give_a_smaller_error() -> None:
    linear = _float_layer(512, 128)
    x = torch.randn(64, 512)
    errors = [
        _relative_error(
            QuantizedLinear.from_float(
                FORMATS[scheme], linear.weight.detach(), linear.bias.detach()
            ),
            linear,
            x,
        )
        for scheme in ("w4a4", "w4a8", "w8a8")
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02


def test_rotation_rescues_an_outlier_channel() -> None:
    linear = _float_layer(512, 128)
    x = torch.randn(64, 512)
    x[:, 3] *= 100
    plain = QuantizedLinear.from_float(W4A4, linear.weight.detach())
    rotated = QuantizedLinear.from_float(W4A4, linear.weight.detach(), signs=_signs(512))
    exact = x @ linear.weight.detach().T
    small = x[:, torch.arange(512) != 3] @ linear.weight.detach()[:, torch.arange(512) != 3].T
    assert (rotated(x) - exact).norm() < 0.8 * (plain(x) - exact).norm()
    assert (plain(x) - exact).norm() > 0.8 * small.norm()  # without it all but the outlier is lost


def test_four_bit_weights_take_half_a_byte_each() -> None:
    layer = QuantizedLinear.from_float(W4A4, torch.randn(64, 128))
    assert layer.weight.nbytes == 64 * 128 // 2
    assert sum(t.nbytes for t in layer.state_dict().values()) == 64 * 128 // 2 + 64 * 4


def test_the_output_keeps_the_inputs_dtype() -> None:
    layer = QuantizedLinear.from_float(W4A4, torch.randn(8, 16))
    assert layer(torch.randn(3, 16, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_layer_has_no_parameters_to_train() -> None:
    assert not list(QuantizedLinear.from_float(W4A4, torch.randn(8, 16)).parameters())


def test_state_round_trips_through_its_tensors() -> None:
    layer = QuantizedLinear.from_float(
        W4A4, torch.randn(8, 16), torch.randn(8), signs=_signs(16), smoothing=torch.rand(16) + 1
    )
    again = QuantizedLinear(W4A4, **layer.state_dict())
    x = torch.randn(3, 16)
    assert torch.equal(layer(x), again(x))


def test_a_wrong_input_width_is_named() -> None:
    with pytest.raises(ValueError, match="input has 15 features; this layer takes 16"):
        QuantizedLinear.from_float(W4A4, torch.randn(8, 16))(torch.randn(3, 15))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": torch.zeros(8, 8, dtype=torch.int8)}, "weight is torch.int8"),
        ({"weight_scale": torch.ones(7)}, r"weight_scale is torch.float32 \(7,\)"),
        ({"signs": torch.ones(15, dtype=torch.int8)}, "signs is"),
        ({"smoothing": torch.ones(16).half()}, "smoothing is torch.float16"),
    ],
)
def test_tensors_that_do_not_belong_together_are_refused(
    tensors: dict[str, torch.Tensor], message: str
) -> None:
    right = {"weight": torch.zeros(8, 8, dtype=torch.uint8), "weight_scale": torch.ones(8)}
    with pytest.raises(ValueError, match=message):
        QuantizedLinear(W4A4, **{**right, **tensors})


@pytest.mark.parametrize("scheme", ["w4a4", "w4a8", "w8a8", "w4a16"])
@pytest.mark.parametrize("width", [128, 100])
def test_gated_tokens_are_gated_on_the_way(width: int, scheme: str) -> None:
    torch.manual_seed(0)
    signs = _signs(width) if width == 128 else None
    layer = QuantizedLinear.from_float(
        FORMATS[scheme], torch.randn(96, width), torch.randn(96), signs=signs
    )
    # from gates that are shut, where the exponential would overflow, to ones that are open
    gate, value = 100 * torch.randn(33, width) ** 3, torch.randn(33, width)
    product = torch.nn.functional.silu(gate) * value
    got = layer(torch.cat((gate, value), dim=-1), gated=True)
    expected = layer(product)
    # a code may differ where a value lies on a rounding edge
    assert ((got - expected).abs() > 1e-4 * expected.abs().amax()).float().mean() < 0.05
    step = rounded_input(layer, product)[1] if scheme != "w4a16" else product.new_tensor(1e-3)
    assert ((got - expected).abs() <= 2 * 8 * layer.weight_scale.amax() * step).all()


def test_gated_tokens_go_through_neither_norm_nor_gelu() -> None:
    layer = QuantizedLinear.from_float(FORMATS["w4a4"], torch.randn(8, 16))
    with pytest.raises(ValueError, match="neither LayerNorm nor GELU"):
        layer(torch.randn(2, 32), gated=True, gelu=True)
    with pytest.raises(ValueError, match="input has 16 features; this layer takes 32"):
        layer(torch.randn(2, 16), gated=True)
