"""Float checkpoint in, network with quantised layers out, one tensor at a time."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from kernels import SCHEMES
from model import VGGT, VGGTConfig
from model.artifact import replace_linear
from model.checkpoint import TensorSource, assign, build_empty, match, resolve_checkpoint
from quantization.progress import track
from quantization.recipe import FLOAT, Recipe


def rotation_signs(width: int, layer: str, seed: int) -> Tensor:
    """Random signs `[width]` (int8) of a layer's rotation; they depend on the seed and the layer's name only."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{layer}".encode()))
    return (2 * torch.randint(0, 2, (width,), generator=generator) - 1).to(torch.int8)


def quantize_network(net: VGGT, recipe: Recipe) -> VGGT:
    """A new network with the layers that `recipe` names quantised; `net` is left as it is and shares no storage."""
    parameters = dict(net.named_parameters())
    return _convert(net.config, lambda name: parameters[name].detach().clone(), recipe)


def quantize_checkpoint(location: str | Path, recipe: Recipe, heads: tuple[str, ...] | None = None) -> VGGT:
    """Quantises a checkpoint while reading it, so that its float form never lies in memory as a whole.

    Raises model.errors.CheckpointError.
    """
    path, config = resolve_checkpoint(location)
    if heads is not None:
        config = config.with_heads(heads)
    source = TensorSource(path)
    match(build_empty(config), source)
    return _convert(config, source.read, recipe)


def _convert(config: VGGTConfig, read: Callable[[str], Tensor], recipe: Recipe) -> VGGT:
    net = build_empty(config)
    linears = {
        name: module
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear) and recipe.scheme(name) != FLOAT
    }
    for name, linear in track(linears.items(), "quantising layers"):
        signs = rotation_signs(linear.in_features, name, recipe.seed) if recipe.rotate else None
        bias = None if linear.bias is None else read(f"{name}.bias")
        layer = SCHEMES[recipe.scheme(name)].from_float(read(f"{name}.weight"), bias, signs=signs)
        replace_linear(net, name, layer)
    for name, parameter in list(net.named_parameters()):
        if parameter.is_meta:
            assign(net, name, read(name), "cpu")
    return net.eval()
