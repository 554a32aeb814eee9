"""Linear layers whose weights are integer codes. A layer has one state: quantised."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from kernels import ops, reference
from kernels.path import KernelPath


class QuantizedLinear(nn.Module):
    """`y = x W^T + b` computed on codes, as `kernels.reference` defines it. Use one of the subclasses.

    Buffers (all that is stored): `weight` uint8 `[N, K / 2]` (4 bits, two to a byte) or int8 `[N, K]` (8 bits),
    `weight_scale` float32 `[N]`, and where present `bias` float32 `[N]`, `signs` int8 `[K]` (rotation),
    `smoothing` float32 `[K]`, `activation_clip` float32 `[2]`.
    """

    weight_bits: ClassVar[int]
    activation_bits: ClassVar[int]

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None
    signs: Tensor | None
    smoothing: Tensor | None
    activation_clip: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        weight_scale: Tensor,
        bias: Tensor | None = None,
        signs: Tensor | None = None,
        smoothing: Tensor | None = None,
        activation_clip: Tensor | None = None,
    ) -> None:
        super().__init__()
        packed = self.weight_bits == 4
        self.out_features = weight.shape[0]
        self.in_features = weight.shape[1] * (2 if packed else 1)
        n, k = self.out_features, self.in_features
        expected = {
            "weight": (weight, (n, weight.shape[1]), torch.uint8 if packed else torch.int8),
            "weight_scale": (weight_scale, (n,), torch.float32),
            "bias": (bias, (n,), torch.float32),
            "signs": (signs, (k,), torch.int8),
            "smoothing": (smoothing, (k,), torch.float32),
            "activation_clip": (activation_clip, (2,), torch.float32),
        }
        for name, (tensor, shape, dtype) in expected.items():
            if tensor is not None and (tuple(tensor.shape) != shape or tensor.dtype != dtype):
                raise ValueError(
                    f"{type(self).__name__}: {name} is {tensor.dtype} {tuple(tensor.shape)}; expected {dtype} {shape}"
                )
            self.register_buffer(name, tensor)

    @classmethod
    def from_float(
        cls,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        signs: Tensor | None = None,
        smoothing: Tensor | None = None,
        weight_clip: Tensor | None = None,
        activation_clip: Tensor | None = None,
    ) -> QuantizedLinear:
        """Quantises a float weight `[N, K]` after rotating and smoothing it. Round to nearest; see `reference`."""
        transformed = reference.transform_weight(weight, signs, smoothing)
        codes, scale = reference.quantize_weight(transformed, cls.weight_bits, weight_clip)
        stored = reference.pack_int4(codes) if cls.weight_bits == 4 else codes
        bias = None if bias is None else bias.float()
        return cls(stored, scale, bias, signs, smoothing, activation_clip)

    def runs_natively(self, path: KernelPath) -> bool:
        """Whether `path` has kernels for this layer; otherwise its definition in plain torch computes it."""
        whole = self.activation_bits != reference.FLOAT_ACTIVATIONS
        return whole and "linear" in path.operators and path.fits(self.in_features, self.signs is not None)

    def weight_codes(self) -> Tensor:
        """The weight's codes `[N, K]`, int8."""
        return reference.weight_codes(self.weight)

    def quantize_input(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes `[..., K]` (int8) and per-token scales `[..., 1]` of the rotated and smoothed input."""
        return ops.quantize_rows(
            x.contiguous(),
            bits=self.activation_bits,
            signs=self.signs,
            smoothing=self.smoothing,
            clip=self.activation_clip,
        )

    def forward(
        self,
        x: Tensor,
        *,
        norm: nn.LayerNorm | None = None,
        gelu: bool = False,
        layer_scale: Tensor | None = None,
        residual: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """`residual + layer_scale * layer(gelu(norm(x)))`: `[..., K]` to `[..., N]` in `dtype`, by default that of `x`.

        What stands around the layer in a transformer block may be given along, and is computed in the same pass; see
        `kernels.ops.linear`.
        """
        if x.shape[-1] != self.in_features:
            raise ValueError(f"input has {x.shape[-1]} features; this layer takes {self.in_features}")
        return ops.linear(
            x.contiguous(),
            self.weight,
            self.weight_scale,
            self.bias,
            activation_bits=self.activation_bits,
            weight_bits=self.weight_bits,
            norm_weight=None if norm is None else norm.weight,
            norm_bias=None if norm is None else norm.bias,
            norm_eps=ops.NORM_EPS if norm is None else norm.eps,
            gelu=gelu,
            signs=self.signs,
            smoothing=self.smoothing,
            clip=self.activation_clip,
            layer_scale=layer_scale,
            residual=None if residual is None else residual.contiguous(),
            dtype=dtype,
        )

    def extra_repr(self) -> str:
        rotated, smoothed = self.signs is not None, self.smoothing is not None
        return f"in_features={self.in_features}, out_features={self.out_features}, {rotated=}, {smoothed=}"


class W4A4Linear(QuantizedLinear):
    """4-bit weights, 4-bit activations."""

    weight_bits = 4
    activation_bits = 4


class W4A8Linear(QuantizedLinear):
    """4-bit weights, 8-bit activations: the refuge of layers that cannot bear 4-bit activations."""

    weight_bits = 4
    activation_bits = 8


class W4A16Linear(QuantizedLinear):
    """4-bit weights, float activations: saves memory only."""

    weight_bits = 4
    activation_bits = reference.FLOAT_ACTIVATIONS


class W8A8Linear(QuantizedLinear):
    """8-bit weights, 8-bit activations."""

    weight_bits = 8
    activation_bits = 8


SCHEMES: dict[str, type[QuantizedLinear]] = {
    "w4a4": W4A4Linear,
    "w4a8": W4A8Linear,
    "w8a8": W8A8Linear,
    "w4a16": W4A16Linear,
}
