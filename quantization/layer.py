"""One linear layer: from its float weight and the inputs that calibration saw to a quantised layer
and its errors."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import NumberFormat, QuantizedLinear, reference, with_wide_activations
from quantization.clipping import search_activation_clip, search_weight_clip
from quantization.correction import (
    Moments,
    corrected_bias,
    corrected_scale,
    corrected_weight,
    mean_covariance,
)
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


@dataclass(frozen=True)
class Inputs:
    """What a layer is quantised by: the format of its activations, where they are clipped `[2]`,
    and the moments of its transformed inputs once they are rounded. None where the recipe does not
    ask."""

    scheme: NumberFormat
    clip: Tensor | None
    moments: Moments | None


@dataclass(frozen=True)
class Prepared:
    """A layer before its weight is rounded: `target` `[N, K]` is rotated by `signs` `[K]` and
    multiplied with `smoothing` `[K]`, float64; `weight_clip` `[N, 2]` was learned or is None."""

    target: Tensor
    signs: Tensor | None
    smoothing: Tensor | None
    weight_clip: Tensor | None
    inputs: Inputs

    def wide_inputs(self, observed: Observed, recipe: Recipe) -> Inputs:
        """Those of the same layer with 8-bit activations, which its format must know. `observed` is
        what it sees in the network whose layers all have them."""
        scheme = with_wide_activations(self.inputs.scheme)
        assert scheme is not None
        return _inputs(self.target, scheme, recipe, self.signs, self.smoothing, observed, None)


def prepare(
    weight: Tensor,
    scheme: NumberFormat,
    recipe: Recipe,
    signs: Tensor | None,
    observed: Observed | None = None,
    learned: Transform | None = None,
) -> Prepared:
    """Rotates and smooths `weight` `[N, K]` as `recipe` says, and looks at the inputs; without
    `observed` ones whatever needs none of them. On the device of `weight`."""
    weight = weight.double()
    turned = weight if signs is None else reference.rotate(weight, signs)
    smoothing = learned.smoothing if learned else None
    if observed is not None and recipe.smooth and smoothing is None:
        smoothing = _search_smoothing(turned, scheme, recipe, signs, observed)
    target = turned if smoothing is None else turned * smoothing.double()
    clip = learned.activation_clip if learned else None
    return Prepared(
        target,
        signs,
        smoothing,
        learned.weight_clip if learned else None,
        _inputs(target, scheme, recipe, signs, smoothing, observed, clip),
    )


def round_layer(
    prepared: Prepared, bias: Tensor | None, recipe: Recipe, wide: Inputs | None = None
) -> tuple[QuantizedLinear, QuantizedLinear | None]:
    """The quantised layer, and with `wide` inputs the one for 8-bit activations, which shares its
    codes.

    The codes are what is large, so there is one set for both, made for the moments of both, those
    of 8 bits with the weight `recipe.wide_share`. Scale and bias are each width's own, since 4-bit
    rounding shrinks what it rounds and 8-bit rounding does not.
    """
    target, inputs = prepared.target, prepared.inputs
    both = [inputs] if wide is None else [inputs, wide]
    bits = inputs.scheme.weight_bits
    corrected, weight_clip = target, prepared.weight_clip
    moments = [one.moments for one in both if one.moments is not None]
    if moments:
        shares = [1.0] if len(moments) == 1 else [1 - recipe.wide_share, recipe.wide_share]
        gram, cross = mean_covariance(moments, shares)
        powers = torch.zeros_like(gram)
        for share, one in zip(shares, moments, strict=True):
            powers += share * one.gram
        if recipe.correct:
            corrected = corrected_weight(target, gram, cross, RIDGE)
        else:
            gram = powers  # no bias takes care of the mean
        if weight_clip is None and recipe.clip_weights:
            importance = powers.diagonal() / moments[0].count
            weight_clip = search_weight_clip(corrected, bits, importance)
    codes, first_scale = reference.quantize_weight(corrected, bits, weight_clip)
    scale = first_scale.float()
    if moments and recipe.rounding == "gptq" and inputs.scheme.packed:
        codes = round_by_inputs(corrected, scale.double(), bits, gram)
    stored = reference.stored_weight(codes, inputs.scheme.codes_to_a_byte)

    def layer(seen: Inputs) -> QuantizedLinear:
        own_scale, own_bias = scale, bias
        if seen.moments is not None and recipe.correct:
            if wide is not None:
                own_scale = corrected_scale(
                    target, codes.double(), scale.double(), seen.moments
                ).float()
            weight = codes * own_scale.double()[:, None]
            own_bias = corrected_bias(bias, target, weight, seen.moments)
        return QuantizedLinear(
            seen.scheme,
            stored,
            own_scale,
            _float(own_bias),
            prepared.signs,
            _float(prepared.smoothing),
            _float(seen.clip),
        )

    return layer(inputs), None if wide is None else layer(wide)


def quantize_layer(
    weight: Tensor,
    bias: Tensor | None,
    scheme: NumberFormat,
    recipe: Recipe,
    signs: Tensor | None,
    observed: Observed | None = None,
    learned: Transform | None = None,
) -> QuantizedLinear:
    """Quantises `weight` `[N, K]` as `recipe` says, for activations of one width; without
    `observed` inputs whatever needs none of them.

    Computes in float64, on the device of `weight`.
    """
    prepared = prepare(weight, scheme, recipe, signs, observed, learned)
    return round_layer(prepared, bias, recipe)[0]


def layer_errors(
    layer: QuantizedLinear,
    weight: Tensor,
    bias: Tensor | None,
    scheme: NumberFormat,
    rows: tuple[Tensor, Tensor],
) -> LayerErrors:
    """Errors of `layer` against the float layer on the `rows` of `Observed.rows`."""
    meant, seen = rows
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


def _inputs(
    target: Tensor,
    scheme: NumberFormat,
    recipe: Recipe,
    signs: Tensor | None,
    smoothing: Tensor | None,
    observed: Observed | None,
    clip: Tensor | None,
) -> Inputs:
    """What `recipe` asks of a layer's inputs; a `clip` that is given is not searched for."""
    if observed is None:
        return Inputs(scheme, clip, None)
    if clip is None and recipe.clip_activations and scheme.rounds_activations:
        rows = reference.transform_activation(observed.rows()[1], signs, smoothing)
        clip = search_activation_clip(rows, target.float(), scheme.activation_bits)
    if not (recipe.correct or recipe.clip_weights or recipe.rounding != "nearest"):
        return Inputs(scheme, clip, None)
    moments = Moments.empty(observed.seen[0].shape[-1], observed.seen[0].device)
    for meant, seen in zip(observed.meant, observed.seen, strict=True):
        rows, true = (
            reference.transform_activation(x.flatten(0, 1), signs, smoothing) for x in (seen, meant)
        )
        moments.add(_dequantised(rows, scheme, clip) if recipe.correct else rows, rows, true)
    return Inputs(scheme, clip, moments)


def _dequantised(rows: Tensor, scheme: NumberFormat, clip: Tensor | None) -> Tensor:
    """What the integer product makes of transformed inputs: codes times scales."""
    if not scheme.rounds_activations:
        return rows
    codes, scale = reference.quantize_activation(rows, scheme.activation_bits, clip)
    return codes * scale


def _float(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.float()
