"""Function-preserving changes of a float block before it is quantised: what a neighbour can carry
for nothing.

LayerNorm's gain goes into the weight and its offset into the bias of the linear layer behind it
(Wei et al., "Outlier Suppression", 2022); LayerScale goes into the rows of the layer before it; the
mean of a layer's input goes into its bias, taken off the input by LayerNorm's offset or, since
attention weights sum to one, by the bias of the values.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.network.surrounded import LayerScale
from model.network.transformer import Block


def centred(block: Block) -> tuple[str, ...]:
    """The linear layers whose input's mean can be taken off without any work at run time."""
    return (*block.normed, "attn.proj")


@torch.no_grad()
def fold_norms(block: Block) -> None:
    """Moves the gain and the offset of both LayerNorms into the linear layers behind them."""
    for layer, norm in _normed(block):
        weight = layer.weight.double()
        _set(layer, "bias", layer.bias.double() + weight @ norm.bias.double())
        _set(layer, "weight", weight * norm.weight.double())
        _set(norm, "weight", torch.ones_like(norm.weight))
        _set(norm, "bias", torch.zeros_like(norm.bias))


@torch.no_grad()
def fold_layer_scales(block: Block) -> None:
    """Moves both LayerScales into the linear layers before them; what stays behind multiplies by
    one."""
    for layer_name, scale_name in block.scaled.items():
        layer, scale = block.get_submodule(layer_name), block.get_submodule(scale_name)
        if isinstance(layer, nn.Linear) and isinstance(scale, LayerScale):
            _set(layer, "weight", layer.weight.double() * scale.gamma.double()[:, None])
            _set(layer, "bias", layer.bias.double() * scale.gamma.double())
            _set(scale, "gamma", torch.ones_like(scale.gamma))


@torch.no_grad()
def fold_means(block: Block, means: Mapping[str, Tensor]) -> None:
    """Takes `means` `[K]` off the inputs of the `centred` layers, and gives it back through their
    biases."""
    width = block.attn.proj.in_features
    for name in centred(block):
        layer = block.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        mean = means[name].double()
        _set(layer, "bias", layer.bias.double() + layer.weight.double() @ mean)
        if name in block.normed:
            norm = block.get_submodule(block.normed[name])
            assert isinstance(norm, nn.LayerNorm)
            _set(norm, "bias", norm.bias.double() - mean)
        else:
            values = block.attn.qkv.bias.double().clone()
            values[2 * width :] -= mean
            _set(block.attn.qkv, "bias", values)


def _normed(block: Block) -> list[tuple[nn.Linear, nn.LayerNorm]]:
    pairs = [
        (block.get_submodule(layer), block.get_submodule(norm))
        for layer, norm in block.normed.items()
    ]
    return [
        (layer, norm)
        for layer, norm in pairs
        if isinstance(layer, nn.Linear) and isinstance(norm, nn.LayerNorm)
    ]


def _set(module: nn.Module, name: str, value: Tensor) -> None:
    old: Tensor = getattr(module, name)
    setattr(module, name, nn.Parameter(value.to(old.dtype), requires_grad=False))
