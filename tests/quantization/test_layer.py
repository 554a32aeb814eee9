from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kernels import FORMATS, QuantizedLinear, reference
from quantization.correction import corrected_bias, corrected_scale
from quantization.layer import (
    SEARCH_ROWS,
    Observed,
    layer_errors,
    prepare,
    quantize_layer,
    rotation_signs,
    round_layer,
)
from quantization.recipe import RECIPES, Recipe

W4A4 = FORMATS["w4a4"]
BEST = replace(RECIPES["best"], fold=False)


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(48, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def observed() -> Observed:
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(64, 64, generator=generator) / 8 + 0.2
    samples = [torch.randn(2, 120, 64, generator=generator) @ mixing for _ in range(6)]
    return Observed(samples, samples)


def _error(recipe: Recipe, weight: Tensor, observed: Observed) -> float:
    signs = rotation_signs(64, "layer", 0) if recipe.rotate else None
    layer = quantize_layer(weight, torch.zeros(48), W4A4, recipe, signs, observed)
    return layer_errors(layer, weight, torch.zeros(48), W4A4, observed.rows()).quantised


def test_rotations_depend_on_seed_and_layer_only() -> None:
    assert torch.equal(rotation_signs(64, "a", 0), rotation_signs(64, "a", 0))
    assert not torch.equal(rotation_signs(64, "a", 0), rotation_signs(64, "b", 0))
    assert not torch.equal(rotation_signs(64, "a", 0), rotation_signs(64, "a", 1))


def test_rows_are_spread_over_all_samples_whatever_their_number_of_tokens() -> None:
    numbers = torch.arange(6000, dtype=torch.float32).view(-1, 2)
    samples = [part.view(2, -1, 2) for part in numbers.split([600, 2000, 400])]
    rows = Observed(samples, [-sample for sample in samples]).rows()
    assert torch.equal(rows[0], -rows[1])
    assert len(rows[0].unique(dim=0)) == len(rows[0]) == SEARCH_ROWS
    owner = torch.bucketize(rows[0][:, 0].contiguous(), torch.tensor([1200.0, 5200.0]), right=True)
    expected = torch.tensor([600.0, 2000.0, 400.0]) / 3000
    torch.testing.assert_close(owner.bincount() / SEARCH_ROWS, expected, atol=0.03, rtol=0)


def test_without_inputs_a_layer_is_rounded_as_the_definition_does(weight: Tensor) -> None:
    signs = rotation_signs(64, "layer", 0)
    ours = quantize_layer(weight, None, W4A4, Recipe(), signs)
    plain = QuantizedLinear.from_float(W4A4, weight, signs=signs)
    torch.testing.assert_close(ours.weight_scale, plain.weight_scale)
    assert (ours.weight_codes() != plain.weight_codes()).float().mean() < 1e-3


@pytest.mark.parametrize("part", ["rounding", "correct", "clip_activations"])
def test_every_part_of_our_recipe_lowers_the_error(
    part: str, weight: Tensor, observed: Observed
) -> None:
    best = replace(RECIPES["best"], fold=False)
    without = replace(best, **{part: "nearest" if part == "rounding" else False})
    assert _error(best, weight, observed) < _error(without, weight, observed)


def test_our_recipe_is_far_below_rounding_to_nearest(weight: Tensor, observed: Observed) -> None:
    assert _error(RECIPES["best"], weight, observed) < 0.5 * _error(
        RECIPES["rtn"], weight, observed
    )


def test_a_free_alpha_is_never_worse_than_half(weight: Tensor, observed: Observed) -> None:
    fixed = Recipe(smooth=True)
    assert (
        _error(replace(fixed, alpha=None), weight, observed)
        <= _error(fixed, weight, observed) * 1.001
    )


def test_smoothing_takes_its_statistics_after_the_rotation(
    weight: Tensor, observed: Observed
) -> None:
    signs = rotation_signs(64, "layer", 0)
    layer = quantize_layer(
        weight,
        None,
        W4A4,
        Recipe(smooth=True),
        signs,
        Observed(observed.meant[:1], observed.seen[:1]),
    )
    inputs = reference.rotate(observed.seen[0], signs).abs().amax(dim=1).mean(dim=0)
    weights = reference.rotate(weight.double(), signs).abs().amax(dim=0)
    assert layer.smoothing is not None
    torch.testing.assert_close(
        layer.smoothing.double(), (inputs.double() / weights).sqrt(), atol=1e-5, rtol=1e-4
    )


def test_searches_look_at_a_bounded_number_of_tokens_from_everywhere() -> None:
    samples = [torch.arange(4000.0).view(1, 4000, 1) + 4000 * i for i in range(3)]
    meant, seen = Observed(samples, samples).rows()
    assert torch.equal(meant, seen)
    assert len(seen) == SEARCH_ROWS
    assert len(seen.unique()) == SEARCH_ROWS
    shares = torch.histc(seen, 3, 0, 12000) / SEARCH_ROWS
    assert (shares - 1 / 3).abs().max() < 0.05


@pytest.mark.parametrize("recipe", [replace(Recipe(), smooth=True), *RECIPES.values()])
@pytest.mark.parametrize("rotate", [False, True])
def test_channels_and_layers_of_zeros_are_quantised_like_any_other(
    recipe: Recipe, rotate: bool, weight: Tensor, observed: Observed
) -> None:
    recipe = replace(recipe, rotate=rotate)
    signs = rotation_signs(64, "layer", 0) if rotate else None
    unread = weight.clone()
    unread[:, 5] = 0
    for values in (unread, torch.zeros_like(weight)):
        layer = quantize_layer(values, torch.zeros(48), W4A4, recipe, signs, observed)
        found = layer_errors(layer, values, torch.zeros(48), W4A4, observed.rows())
        assert 0 <= found.quantised < 0.1
        assert 0 <= found.nearest < 0.1
        assert layer(observed.seen[0]).isfinite().all()


def _both_widths(
    recipe: Recipe,
) -> tuple[Tensor, Tensor, Observed, QuantizedLinear, QuantizedLinear]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(48, 64, generator=generator)
    bias = torch.randn(48, generator=generator)
    mixing = torch.randn(64, 64, generator=generator) / 8 + 0.2
    samples = [torch.randn(2, 120, 64, generator=generator) @ mixing for _ in range(6)]
    observed = Observed(samples, samples)
    prepared = prepare(weight, W4A4, recipe, rotation_signs(64, "layer", 0), observed)
    narrow, wide = round_layer(prepared, bias, recipe, prepared.wide_inputs(observed, recipe))
    assert wide is not None
    return weight, bias, observed, narrow, wide


def _distance(layer: QuantizedLinear, weight: Tensor, bias: Tensor, observed: Observed) -> float:
    rows = torch.cat([sample.flatten(0, 1) for sample in observed.seen])
    return float((layer(rows) - (rows @ weight.T + bias)).norm())


def test_a_layer_for_8_bit_activations_has_the_codes_of_that_for_4_bit_ones() -> None:
    weight, bias, observed, narrow, wide = _both_widths(BEST)
    assert wide.format == FORMATS["w4a8"]
    assert wide.weight.data_ptr() == narrow.weight.data_ptr()
    unchanged = narrow.with_activations(FORMATS["w4a8"], narrow.weight_scale, narrow.bias)
    near, far, farthest = (
        _distance(layer, weight, bias, observed) for layer in (wide, unchanged, narrow)
    )
    assert near < far < farthest


def test_codes_for_both_widths_are_nearer_with_8_bit_activations_than_those_for_4_bit_ones() -> (
    None
):
    weight, bias, observed, narrow, wide = _both_widths(BEST)
    signs = rotation_signs(64, "layer", 0)
    alone = quantize_layer(weight, bias, W4A4, BEST, signs, observed)
    prepared = prepare(weight, W4A4, BEST, signs, observed)
    moments = prepared.wide_inputs(observed, BEST).moments
    assert moments is not None
    codes = alone.weight_codes().double()
    scale = corrected_scale(prepared.target, codes, alone.weight_scale.double(), moments)
    shift = corrected_bias(bias, prepared.target, codes * scale[:, None], moments)
    widened = alone.with_activations(
        wide.format, scale.float(), shift.float(), wide.activation_clip
    )
    assert _distance(wide, weight, bias, observed) < 0.97 * _distance(
        widened, weight, bias, observed
    )
    assert _distance(narrow, weight, bias, observed) < 1.1 * _distance(
        alone, weight, bias, observed
    )


def test_the_mean_output_of_both_widths_is_that_of_the_float_layer() -> None:
    weight, bias, observed, narrow, wide = _both_widths(BEST)
    rows = torch.cat([sample.flatten(0, 1) for sample in observed.seen])
    mean = (rows @ weight.T + bias).mean(dim=0)
    for layer in (narrow, wide):
        torch.testing.assert_close(layer(rows).mean(dim=0), mean, atol=1e-3, rtol=1e-3)


def test_without_correction_both_widths_have_the_same_scale_and_bias() -> None:
    _, bias, _, narrow, wide = _both_widths(replace(BEST, correct=False))
    assert torch.equal(wide.weight_scale, narrow.weight_scale)
    for layer in (narrow, wide):
        assert layer.bias is not None
        assert torch.equal(layer.bias, bias)
