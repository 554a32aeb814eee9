"""What a layer needs to take 8-bit activations by the codes that its weight has for 4-bit ones.

The codes stay: they are what is large. Scale and bias of every output channel and the clip of the
inputs are found anew, since 4-bit rounding shrinks what it rounds and 8-bit rounding does not.
"""

from __future__ import annotations

from torch import Tensor

from kernels import QuantizedLinear, reference, with_wide_activations
from quantization.clipping import search_activation_clip
from quantization.correction import corrected_bias, corrected_scale
from quantization.layer import Observed, input_moments
from quantization.recipe import Recipe


def widened(
    layer: QuantizedLinear, weight: Tensor, bias: Tensor | None, observed: Observed, recipe: Recipe
) -> QuantizedLinear:
    """`layer` with the same codes for 8-bit activations, which its format must know.

    `weight` `[N, K]` and `bias` `[N]` are those of the float layer, `observed` its inputs in the
    float network and in the one whose layers are all widened.
    """
    scheme = with_wide_activations(layer.format)
    assert scheme is not None
    signs, smoothing = layer.signs, layer.smoothing
    turned = weight.double() if signs is None else reference.rotate(weight.double(), signs)
    target = turned if smoothing is None else turned * smoothing.double()
    clip = None
    if recipe.clip_activations:
        rows = reference.transform_activation(observed.rows()[1], signs, smoothing)
        clip = search_activation_clip(rows, target.float(), scheme.activation_bits)
    scale, shifted = layer.weight_scale, bias
    if recipe.correct:
        moments = input_moments(observed, scheme, recipe, signs, smoothing, clip)
        codes = layer.weight_codes().double()
        scale = corrected_scale(target, codes, scale.double(), moments).float()
        shifted = corrected_bias(bias, target, codes * scale.double()[:, None], moments)
    return layer.with_activations(scheme, scale, None if shifted is None else shifted.float(), clip)
