"""Float checkpoint in, network with quantised layers out: block by block on samples, or layer by
layer without."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kernels.hadamard import base_order
from model import families
from model.files.artifact import replace_linear
from model.files.checkpoint import assign, build_empty
from model.network.config import NetworkConfig
from model.network.network import Network
from model.progress import track
from quantization.calibration.run import Calibrated, calibrate
from quantization.calibration.stages import Read
from quantization.calibration.store import StageStore
from quantization.layer import quantize_layer, rotation_signs
from quantization.recipe import Recipe


def quantize_network(net: Network, recipe: Recipe, images: Sequence[Tensor] = ()) -> Network:
    """A new network with the layers that `recipe` names quantised, on the device of `net`, which is
    left as it is and shares no storage.

    `images` are the calibration samples, one `[S, 3, H, W]` in [0, 1] each. Raises ValueError
    without any if the recipe looks at activations.
    """
    device = next(net.parameters()).device
    return quantize(net.config, reader(net), recipe, images, device=device).net


def reader(net: Network) -> Callable[[str], Tensor]:
    """Copies of the parameters of a float network by name, as a checkpoint would give them."""
    parameters = dict(net.named_parameters())
    return lambda name: parameters[name].detach().clone()


def quantize(
    config: NetworkConfig,
    read: Read,
    recipe: Recipe,
    images: Sequence[Tensor] = (),
    *,
    store: StageStore | None = None,
    device: str | torch.device = "cpu",
) -> Calibrated:
    """Quantises a checkpoint while reading it by `read`, so that its float form never lies in
    memory as a whole.

    Raises ValueError if the recipe needs calibration samples and there are none, or does not suit
    the network (`suited`); see `calibrate` for the rest.
    """
    recipe = suited(recipe, config)
    if recipe.needs_calibration:
        made = calibrate(config, read, images, recipe, store=store, device=device)
    else:
        made = _without_samples(config, read, recipe, device)
    made.net.attention, made.net.dense_heads = recipe.attention, recipe.dense_heads
    return made


def suited(recipe: Recipe, config: NetworkConfig) -> Recipe:
    """The recipe with a scheme for every part of this network.

    Raises ValueError if it names parts or layers that the network does not have, quantises nothing,
    or rotates a layer whose width has no rotation.
    """
    family = families.of(config)
    recipe = recipe.of(family)
    layers = {
        name: module
        for name, module in build_empty(config).named_modules()
        if isinstance(module, nn.Linear) and family.part_of(name) is not None
    }
    unknown = sorted(set(dict(recipe.overrides)) - set(layers))
    if unknown:
        raise ValueError(
            f"overrides name {', '.join(unknown[:3])}: no layers of this network that can be "
            f"quantised; expected names such as {next(iter(layers))}"
        )
    for name, layer in layers.items() if recipe.rotate else ():
        if recipe.scheme(family, name) is not None:
            _check_width(name, layer.in_features)
    return recipe


def _check_width(layer: str, width: int) -> None:
    try:
        base_order(width)
    except ValueError as error:
        raise ValueError(
            f"{layer} cannot be rotated: {error}. Quantise without rotation (--no-rotation), or "
            "leave such layers in float by overrides"
        ) from None


def _without_samples(
    config: NetworkConfig, read: Read, recipe: Recipe, device: str | torch.device
) -> Calibrated:
    net, family = build_empty(config), families.of(config)
    schemes = {name: recipe.scheme(family, name) for name, _ in net.named_modules()}
    for name, scheme in track(
        {name: s for name, s in schemes.items() if s is not None}.items(), "quantising layers"
    ):
        weight, bias = read(f"{name}.weight").to(device), read(f"{name}.bias").to(device)
        signs = (
            rotation_signs(weight.shape[1], name, recipe.seed).to(device) if recipe.rotate else None
        )
        assert scheme is not None
        replace_linear(net, name, quantize_layer(weight, bias, scheme, recipe, signs))
    for name, parameter in list(net.named_parameters()):
        if parameter.is_meta:
            assign(net, name, read(name), device)
    return Calibrated(net.eval(), (), {})
