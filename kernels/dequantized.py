"""Linear layers whose integer codes have become floats again, for machines that are slower on
codes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import reference
from kernels.linear import QuantizedLinear

FLOATS = torch.bfloat16


class DequantizedLinear(nn.Module):
    """A quantised layer with the values of its codes as a bfloat16 weight `[N, K]`, four times as
    large as 4-bit codes; neither rotated nor smoothed. Its tokens are not rounded to codes, so that
    its results are nearer to those of the layer before it was quantised.

    Takes what `QuantizedLinear.forward` takes.
    """

    arithmetic = "bfloat16"
    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: QuantizedLinear) -> None:
        super().__init__()
        self.format = layer.format
        self.in_features, self.out_features = layer.in_features, layer.out_features
        values = layer.weight_codes() * layer.weight_scale[:, None]
        restored = reference.restore_weight(values, layer.signs, layer.smoothing)
        self.register_buffer("weight", restored.to(FLOATS))
        self.register_buffer("bias", None if layer.bias is None else layer.bias.to(FLOATS))

    def forward(
        self,
        x: Tensor,
        *,
        norm: nn.LayerNorm | None = None,
        gelu: bool = False,
        gated: bool = False,
        layer_scale: Tensor | None = None,
        residual: Tensor | None = None,
        dtype: torch.dtype | None = None,
        outputs: Tensor | slice | None = None,
    ) -> Tensor:
        dtype = x.dtype if dtype is None else dtype
        if norm is not None:
            x = F.layer_norm(x.float(), x.shape[-1:], norm.weight, norm.bias, norm.eps)
        x = F.gelu(x) if gelu else x
        x = reference.gated(x) if gated else x
        weight, bias = self.weight, self.bias
        if outputs is not None:
            weight, bias = weight[outputs], None if bias is None else bias[outputs]
        y = F.linear(x.to(weight.dtype), weight, bias)
        return reference.surround(y, layer_scale, residual, dtype)

    def extra_repr(self) -> str:
        return (
            f"{self.format.name}, in_features={self.in_features}, out_features={self.out_features}"
        )
