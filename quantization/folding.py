"""Function-preserving changes of a float block before it is quantised: what a neighbour can carry for nothing.

LayerNorm's gain goes into the weight and its offset into the bias of the linear layer behind it (Wei et al., "Outlier
Suppression", 2022); LayerScale goes into the rows of the layer before it; the mean of a layer's input goes into its
bias, taken off the input by LayerNorm's offset or, since attention weights sum to one, by the bias of the values.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.network.transformer import Block, LayerScale

NORMED = {"attn.qkv": "norm1", "mlp.fc1": "norm2"}
"""Linear layers of a block whose input comes from a LayerNorm, and from which."""
CENTRED = (*NORMED, "attn.proj")
"""Linear layers whose input's mean can be taken off without any work at run time."""


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
    """Moves both LayerScales into the linear layers before them; what stays behind multiplies by one."""
    for layer, scale in ((block.attn.proj, block.ls1), (block.mlp.fc2, block.ls2)):
        if isinstance(scale, LayerScale):
            _set(layer, "weight", layer.weight.double() * scale.gamma.double()[:, None])
            _set(layer, "bias", layer.bias.double() * scale.gamma.double())
            _set(scale, "gamma", torch.ones_like(scale.gamma))


@torch.no_grad()
def fold_means(block: Block, means: Mapping[str, Tensor]) -> None:
    """Takes `means` `[K]` off the inputs of the layers named in `CENTRED`, and gives it back through their biases."""
    width = block.attn.proj.in_features
    for name in CENTRED:
        layer = block.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        mean = means[name].double()
        _set(layer, "bias", layer.bias.double() + layer.weight.double() @ mean)
        if name in NORMED:
            norm = block.get_submodule(NORMED[name])
            assert isinstance(norm, nn.LayerNorm)
            _set(norm, "bias", norm.bias.double() - mean)
        else:
            values = block.attn.qkv.bias.double().clone()
            values[2 * width :] -= mean
            _set(block.attn.qkv, "bias", values)


def _normed(block: Block) -> list[tuple[nn.Linear, nn.LayerNorm]]:
    pairs = [(block.get_submodule(layer), block.get_submodule(norm)) for layer, norm in NORMED.items()]
    return [(layer, norm) for layer, norm in pairs if isinstance(layer, nn.Linear) and isinstance(norm, nn.LayerNorm)]


def _set(module: nn.Module, name: str, value: Tensor) -> None:
    old: Tensor = getattr(module, name)
    setattr(module, name, nn.Parameter(value.to(old.dtype), requires_grad=False))
