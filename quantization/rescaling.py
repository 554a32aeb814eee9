"""Heavy tails on demand: channels of a small network rescaled so that its function stays the same.

A billion-scale transformer has channels with activations up to about a hundred times as large as the rest (Dettmers et
al., "LLM.int8()", 2022; Xiao et al., "SmoothQuant", 2023, section 3), and that is what makes rounding methods differ; a
small network lacks them. Here a few channels of every LayerNorm's output are enlarged and the columns of the weight
behind it shrunk to match, likewise values and the output projection of attention.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterator

import torch
from torch import Tensor

from model import VGGT
from model.transformer import Block
from quantization.folding import NORMED

STRENGTH = 100.0
SHARE = 0.03


@torch.no_grad()
def with_outliers(net: VGGT, seed: int = 0, *, strength: float = STRENGTH, share: float = SHARE) -> VGGT:
    """A copy of `net` with the same function, in which `share` of the channels are enlarged by up to `strength`.

    Factors are log-uniform between the root of `strength` and `strength`; which channels depends on the seed and on
    the block's name.
    """
    rescaled = copy.deepcopy(net)
    for name, block in _blocks(rescaled):
        for layer, norm in NORMED.items():
            factors = _factors(f"{seed}/{name}.{layer}", block.norm1.weight.numel(), strength, share)
            for parameter in block.get_submodule(norm).parameters():
                parameter.mul_(factors)
            block.get_submodule(layer).get_parameter("weight").div_(factors)
        width = block.attn.proj.in_features
        factors = _factors(f"{seed}/{name}.attn.proj", width, strength, share)
        block.attn.qkv.weight[2 * width :] *= factors[:, None]
        block.attn.qkv.bias[2 * width :] *= factors
        block.attn.proj.weight /= factors
    return rescaled


def _blocks(net: VGGT) -> Iterator[tuple[str, Block]]:
    for name, module in net.named_modules():
        if isinstance(module, Block) and name.startswith("aggregator."):
            yield name, module


def _factors(key: str, width: int, strength: float, share: float) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    chosen = torch.randperm(width, generator=generator)[: max(1, round(share * width))]
    factors = torch.ones(width)
    factors[chosen] = strength ** (0.5 + 0.5 * torch.rand(len(chosen), generator=generator))
    return factors
