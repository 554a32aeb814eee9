"""Heavy tails on demand: a few channels of a small network made as large as published ones, its
function unchanged.

In billion-scale transformers a handful of channels is up to about 20 times as large as the rest, at
nearly all places and with one sign (Dettmers et al., "LLM.int8()", 2022, section 4), which is what
tells rounding methods apart; a small network lacks them. Here a few channels of what enters the
linear layers are shifted that far: by LayerNorm's offset or by the bias of the values (attention
weights sum to one), and the bias of the layer behind takes it back.

To enlarge a channel by a factor and to divide the weight's column by it would not do: smoothing
with alpha = 1/2 finds that very factor, so it would look perfect and everything else would look
bad, for no reason that a real network has.
"""

from __future__ import annotations

import copy
import zlib

import torch
from torch import Tensor, nn

from model.network.network import Network
from model.network.transformer import Block
from quantization.folding import centred, fold_means

STRENGTH = 20.0
SHARE = 0.01  # published ones are fewer, but a layer of 128 inputs cannot have less than one


@torch.no_grad()
def with_outliers(
    net: Network, seed: int = 0, *, strength: float = STRENGTH, share: float = SHARE
) -> Network:
    """A copy of `net` with the same function, in which `share` of the channels of its blocks are
    shifted.

    By half of `strength` to all of it, either way, in units of the root mean square gain of the
    LayerNorm (of the values' weights for the output projection). Which channels depends on the seed
    and on the layer's name.
    """
    shifted = copy.deepcopy(net)
    for stage in shifted.blocks():
        block = shifted.get_submodule(stage.name)
        assert isinstance(block, Block)
        units = _units(block)
        # to shift is to take off a mean that is not there
        shifts = {
            n: _shifts(f"{seed}/{stage.name}.{n}", block, n, strength, share)
            for n in centred(block)
        }
        fold_means(block, {n: -units[n] * shift for n, shift in shifts.items()})
    return shifted


def _units(block: Block) -> dict[str, Tensor]:
    values = block.attn.qkv.weight[2 * block.attn.proj.in_features :]
    gains = {layer: block.get_parameter(f"{norm}.weight") for layer, norm in block.normed.items()}
    units = {layer: gain.square().mean().sqrt() for layer, gain in gains.items()}
    return {**units, "attn.proj": (values * gains["attn.qkv"]).square().sum(dim=1).mean().sqrt()}


def _shifts(key: str, block: Block, layer: str, strength: float, share: float) -> Tensor:
    linear = block.get_submodule(layer)
    assert isinstance(linear, nn.Linear)
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    chosen = torch.randperm(linear.in_features, generator=generator)[
        : max(1, round(share * linear.in_features))
    ]
    signs = 2.0 * torch.randint(0, 2, (len(chosen),), generator=generator) - 1
    shifts = torch.zeros(linear.in_features)
    shifts[chosen] = signs * strength * (0.5 + 0.5 * torch.rand(len(chosen), generator=generator))
    return shifts
