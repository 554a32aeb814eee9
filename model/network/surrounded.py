"""A linear layer with what stands around it in a transformer block: a quantised layer does all of
it in one pass over its input."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import DequantizedLinear, QuantizedLinear


class LayerScale(nn.Module):
    """One learned gain per channel (Touvron et al., "Going deeper with Image Transformers",
    2021)."""

    def __init__(self, dim: int, init_values: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init_values))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def surrounded(
    layer: nn.Module,
    x: Tensor,
    *,
    norm: nn.LayerNorm | None = None,
    gelu: bool = False,
    gated: bool = False,
    scale: LayerScale | None = None,
    residual: Tensor | None = None,
    outputs: Tensor | slice | None = None,
) -> Tensor:
    """`residual + scale(layer(gelu(norm(x))))`, or with `gated`, where x is (a | b), that of
    `silu(a) * b`. Of the layer's features only `outputs`, by index or as a range, by default
    all."""
    if isinstance(layer, QuantizedLinear | DequantizedLinear):
        gamma = None if scale is None else scale.gamma
        dtype = _product_dtype(x) if residual is None else residual.dtype
        return layer(
            x,
            norm=norm,
            gelu=gelu,
            gated=gated,
            layer_scale=gamma,
            residual=residual,
            dtype=dtype,
            outputs=outputs,
        )
    x = x if norm is None else norm(x)
    x = F.gelu(x) if gelu else x
    if gated:
        gate, value = x.chunk(2, dim=-1)
        x = F.silu(gate) * value
    if outputs is None:
        y = layer(x)
    else:
        assert isinstance(layer, nn.Linear)
        y = F.linear(x, layer.weight[outputs], None if layer.bias is None else layer.bias[outputs])
    y = y if scale is None else scale(y)
    return y if residual is None else residual + y


def _product_dtype(x: Tensor) -> torch.dtype:
    """What a matrix product of `x` comes out in: under autocast the narrower type, as torch's own
    products."""
    kind = x.device.type
    narrow = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if narrow else x.dtype
