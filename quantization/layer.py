"""One linear layer: from its float weight and the inputs that calibration saw to a quantised layer
and its errors."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import NumberFormat, QuantizedLinear, reference
from quantization.clipping import search_activation_clip, search_weight_clip
from quantization.correction import Moments, corrected_bias, corrected_weight
from quantization.dsfq import channel_scale, update_activation_maximum
from quantization.recipe import Recipe
from quantization.rounding import round_by_inputs

ALPHAS = (0.3, 0.4, 0.5, 0.6, 0.7)
SEARCH_ROWS = 2048
RIDGE = 0.02
_STRIDE = 1_000_003
_SMALLEST_SPREAD = 1e-30


@dataclass(frozen=True)
class Observed:
    """Inputs of a layer over the calibration samples, one `[batch, tokens, K]` each.

    `meant`: in the float network. `seen`: behind what is quantised already.
    """

    meant: Sequence[Tensor]
    seen: Sequence[Tensor]

    def rows(self) -> tuple[Tensor, Tensor]:
        """About `SEARCH_ROWS` tokens `[T, K]` of both, the same ones, spread over all samples."""
        return self.spread(self.meant), self.spread(self.seen)

    def spread(self, samples: Sequence[Tensor]) -> Tensor:
        """The rows of anything that has one `[..., X]` for every token, in the order of the
        samples."""
        parts = [sample.flatten(0, -2) for sample in samples]
        count, device = sum(map(len, parts)), parts[0].device
        # a prime stride visits all positions within a frame, unlike one that divides its number of
        # tokens
        order = torch.arange(min(count, SEARCH_ROWS), device=device) * _STRIDE % count
        rows = parts[0].new_empty(len(order), parts[0].shape[-1])
        first = 0
        for part in parts:
            inside = (first <= order) & (order < first + len(part))
            rows[inside] = part[order[inside] - first]
            first += len(part)
        return rows


@dataclass(frozen=True)
class Transform:
    """What learning found for a layer: `smoothing` `[K]`, `weight_clip` `[N, 2]`, `activation_clip`
    `[2]`."""

    smoothing: Tensor | None
    weight_clip: Tensor | None
    activation_clip: Tensor | None


@dataclass(frozen=True)
class LayerErrors:
    """Squared error of the output over the squared float output on calibration inputs, mean
    removed.

    `nearest`: weights and activations rounded as they are. `quantised`: as this recipe has it. 0
    where the output is right and never changes.
    """

    nearest: float
    quantised: float


def rotation_signs(width: int, layer: str, seed: int) -> Tensor:
    """Random signs `[width]` (int8) of a layer's rotation; they depend on the seed and the layer's
    name only."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{layer}".encode()))
    return (2 * torch.randint(0, 2, (width,), generator=generator) - 1).to(torch.int8)


def quantize_layer(
    weight: Tensor,
    bias: Tensor | None,
    scheme: NumberFormat,
    recipe: Recipe,
    signs: Tensor | None,
    observed: Observed | None = None,
    learned: Transform | None = None,
) -> QuantizedLinear:
    """Quantises `weight` `[N, K]` as `recipe` says; without `observed` inputs whatever needs none
    of them.

    Computes in float64, on the device of `weight`.
    """
    weight = weight.double()
    turned = weight if signs is None else reference.rotate(weight, signs)
    smoothing = learned.smoothing if learned else None
    if observed is not None and recipe.smooth and smoothing is None:
        smoothing = _search_smoothing(turned, scheme, recipe, signs, observed)
    target = turned if smoothing is None else turned * smoothing.double()

    activation_clip = learned.activation_clip if learned else None
    if (
        observed is not None
        and activation_clip is None
        and recipe.clip_activations
        and scheme.rounds_activations
    ):
        rows = reference.transform_activation(observed.rows()[1], signs, smoothing)
        activation_clip = search_activation_clip(rows, target.float(), scheme.activation_bits)

    moments = None
    if observed is not None and (
        recipe.correct or recipe.clip_weights or recipe.rounding != "nearest"
    ):
        moments = input_moments(observed, scheme, recipe, signs, smoothing, activation_clip)
    corrected = corrected_weight(target, moments, RIDGE) if moments and recipe.correct else target

    weight_clip = learned.weight_clip if learned else None
    if weight_clip is None and recipe.clip_weights and moments is not None:
        importance = moments.gram.diagonal() / moments.count
        weight_clip = search_weight_clip(corrected, scheme.weight_bits, importance)
    codes, scale = reference.quantize_weight(corrected, scheme.weight_bits, weight_clip)
    scale = scale.float()
    if moments is not None and recipe.rounding == "gptq" and scheme.packed:
        # the bias takes care of the mean
        gram = moments.centred()[0] if recipe.correct else moments.gram
        codes = round_by_inputs(corrected, scale.double(), scheme.weight_bits, gram)
    if moments is not None and recipe.correct:
        bias = corrected_bias(bias, target, codes * scale.double()[:, None], moments)

    stored = reference.stored_weight(codes, scheme.codes_to_a_byte)
    return QuantizedLinear(
        scheme, stored, scale, _float(bias), signs, _float(smoothing), _float(activation_clip)
    )


def layer_errors(
    layer: QuantizedLinear,
    weight: Tensor,
    bias: Tensor | None,
    scheme: NumberFormat,
    observed: Observed,
) -> LayerErrors:
    """Errors of `layer` against the float layer on evenly spaced calibration tokens."""
    meant, seen = observed.rows()
    true = torch.nn.functional.linear(meant, weight.float(), None if bias is None else bias.float())
    spread = (true - true.mean(dim=0)).square().sum().clamp(min=_SMALLEST_SPREAD)
    nearest = quantize_layer(weight, bias, scheme, Recipe(rotate=False), None)

    def error(candidate: QuantizedLinear) -> float:
        return float((candidate(seen) - true).square().sum() / spread)

    return LayerErrors(error(nearest), error(layer))


def first_smoothing(
    weight: Tensor, inputs: Sequence[Tensor], signs: Tensor | None, recipe: Recipe
) -> Tensor:
    """The channel scale `[K]` that learning starts from: the statistics' own, or ones without
    smoothing."""
    if not recipe.smooth:
        return torch.ones(weight.shape[1], device=weight.device)
    turned = weight.double() if signs is None else reference.rotate(weight.double(), signs)
    alpha = 0.5 if recipe.alpha is None else recipe.alpha
    return channel_scale(
        _activation_maximum(inputs, signs).double(), turned.abs().amax(dim=0), alpha
    ).float()


def _search_smoothing(
    turned: Tensor, scheme: NumberFormat, recipe: Recipe, signs: Tensor | None, observed: Observed
) -> Tensor:
    """The channel scale `[K]` (float32); with a free alpha the one whose rounding moves the output
    least."""
    maximum, weight_maximum = (
        _activation_maximum(observed.seen, signs).double(),
        turned.abs().amax(dim=0),
    )
    if recipe.alpha is not None:
        return channel_scale(maximum, weight_maximum, recipe.alpha).float()
    rows = reference.transform_activation(observed.rows()[1], signs, None)
    expected = rows @ turned.float().T
    best, best_error = None, float("inf")
    for alpha in ALPHAS:
        scale = channel_scale(maximum, weight_maximum, alpha).float()
        smoothed = rows / scale
        seen = _dequantised(smoothed, scheme, None)
        codes, step = reference.quantize_weight(turned * scale, scheme.weight_bits)
        error = float((seen @ (codes * step[:, None]).float().T - expected).square().sum())
        if error < best_error:
            best, best_error = scale, error
    assert best is not None
    return best


def _activation_maximum(samples: Sequence[Tensor], signs: Tensor | None) -> Tensor:
    maximum: Tensor | None = None
    for sample in samples:
        maximum = update_activation_maximum(
            maximum, reference.transform_activation(sample, signs, None)
        )
    assert maximum is not None
    return maximum


def input_moments(
    observed: Observed,
    scheme: NumberFormat,
    recipe: Recipe,
    signs: Tensor | None,
    smoothing: Tensor | None,
    activation_clip: Tensor | None,
) -> Moments:
    """Moments of a layer's transformed inputs over all samples, rounded as `scheme` has it."""
    moments = Moments.empty(observed.seen[0].shape[-1], observed.seen[0].device)
    for meant, seen in zip(observed.meant, observed.seen, strict=True):
        rows, true = (
            reference.transform_activation(x.flatten(0, 1), signs, smoothing) for x in (seen, meant)
        )
        moments.add(
            _dequantised(rows, scheme, activation_clip) if recipe.correct else rows, rows, true
        )
    return moments


def _dequantised(rows: Tensor, scheme: NumberFormat, clip: Tensor | None) -> Tensor:
    """What the integer product makes of transformed inputs: codes times scales."""
    if not scheme.rounds_activations:
        return rows
    codes, scale = reference.quantize_activation(rows, scheme.activation_bits, clip)
    return codes * scale


def _float(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.float()
