"""Float weights that lie in memory as 8-bit codes with one scale an output row, and are multiplied
out when used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kernels import reference
from kernels.formats import FLOAT_WEIGHT_BITS


class _EightBits(nn.Module):
    def forward(self, codes: Tensor, scale: Tensor) -> Tensor:
        return codes.to(scale.dtype) * scale.view(-1, *[1] * (codes.dim() - 1))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return encode(weight)


def encode(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes int8 in the shape of `weight` `[N, ...]` and scales float32 `[N]`, rounded to
    nearest."""
    codes, scale = reference.quantize_weight(weight.detach().float().flatten(1), FLOAT_WEIGHT_BITS)
    return codes.view(weight.shape), scale


@torch.no_grad()
def keep_in_8_bits(module: nn.Module, codes: Tensor, scale: Tensor) -> None:
    """Replaces the weight of a linear or convolution layer by codes and scales as `encode` gives
    them."""
    module.register_parameter(
        "weight", nn.Parameter(_EightBits()(codes, scale), requires_grad=False)
    )
    parametrize.register_parametrization(module, "weight", _EightBits(), unsafe=True)
    kept = module.get_submodule("parametrizations.weight")
    # the very codes that were given, not those of the product
    kept.original0 = nn.Parameter(codes, requires_grad=False)
    kept.original1 = nn.Parameter(scale, requires_grad=False)


def kept_codes(module: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Codes and scales of a layer whose weight lies in 8 bits, None for any other."""
    if not parametrize.is_parametrized(module, "weight"):
        return None
    kept = module.get_submodule("parametrizations.weight")
    return kept.get_parameter("original0"), kept.get_parameter("original1")


@torch.no_grad()
def multiply_out(net: nn.Module, room: int | None, run: Callable[[], object]) -> None:
    """Gives the layers of `net` that lie in 8 bits their weights as floats, once instead of at
    every use, while these take no more than `room` bytes (None: any number).

    `run` runs the network: a layer that meets inputs of one type there gets weights of this type,
    as it would convert them anyway. Results keep their bits.
    """
    layers = [layer for layer in net.modules() if kept_codes(layer) is not None]
    met: dict[nn.Module, set[torch.dtype]] = {layer: set() for layer in layers}

    def note(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        met[layer].add(arguments[0].dtype)

    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    for layer, types in met.items():
        if len(types) != 1:  # several, or a layer that is not used
            continue
        weight = layer.weight
        assert isinstance(weight, Tensor)
        (used,) = types
        weight = weight.to(used)
        if room is not None:
            room -= weight.nbytes
            if room < 0:
                return
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        layer.weight = nn.Parameter(weight, requires_grad=False)
