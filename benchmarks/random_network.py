"""VGGT-1B or another network with random weights, float or quantised: time and memory do not depend
on their values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kernels import NumberFormat, QuantizedLinear, reference
from model import families
from model.families.vggt.presets import PRESETS
from model.files.artifact import replace_linear
from model.files.checkpoint import assign, build_empty
from model.network.config import NetworkConfig
from model.network.network import Network
from quantization.recipe import Recipe

HEADS = ("camera", "depth", "point")  # the tracker runs only where points are asked for


def random_network(
    recipe: Recipe | None,
    config: NetworkConfig | None = None,
    device: str | torch.device = "cpu",
) -> Any:
    """A network of `config` in evaluation mode, its linear layers quantised as `recipe` says; None
    leaves everything in float. By default VGGT-1B without its tracker."""
    torch.manual_seed(0)
    with torch.device(device):
        return _filled(recipe, config, device)


def _filled(
    recipe: Recipe | None, config: NetworkConfig | None, device: str | torch.device
) -> Network:
    net = build_empty(PRESETS["vggt-1b"].with_heads(HEADS) if config is None else config)
    family = families.of(net.config)
    for name, module in list(net.named_modules()):
        scheme = (
            None
            if recipe is None or not isinstance(module, nn.Linear)
            else recipe.scheme(family, name)
        )
        if scheme is not None and isinstance(module, nn.Linear):
            replace_linear(net, name, _layer(scheme, module.in_features, module.out_features))
    for name, parameter in list(net.named_parameters()):
        assign(net, name, _parameter(name, parameter.shape), device)
    return net.eval()


def _layer(scheme: NumberFormat, features_in: int, features_out: int) -> QuantizedLinear:
    top = scheme.largest_weight_code
    codes = torch.randint(-top, top + 1, (features_out, features_in), dtype=torch.int8)
    return QuantizedLinear(
        scheme,
        reference.stored_weight(codes, scheme.codes_to_a_byte),
        torch.full((features_out,), 0.03 / top),
        torch.zeros(features_out),
        (2 * torch.randint(0, 2, (features_in,)) - 1).to(torch.int8),
        torch.rand(features_in) + 0.5,
    )


def _parameter(name: str, shape: torch.Size) -> Tensor:
    """Matrices that keep the size of what goes through them, norms that are the identity, a small
    LayerScale."""
    if name.endswith("gamma"):
        return torch.full(shape, 0.1)
    if len(shape) > 1:
        return torch.randn(shape) * (shape[0] / shape.numel()) ** 0.5
    return torch.ones(shape) if "norm" in name and name.endswith("weight") else torch.zeros(shape)
