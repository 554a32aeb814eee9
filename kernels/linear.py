"""Linear layers whose weights are integer codes. A layer has one state: quantised."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kernels import ops, reference
from kernels.formats import NumberFormat
from kernels.path import KernelPath


class QuantizedLinear(nn.Module):
    """`y = x W^T + b` computed on codes, as `kernels.reference` defines it, in a `format` of
    `kernels.formats`.

    Buffers (all that is stored): `weight` uint8 `[N, K / 2]` (two codes to a byte) or int8 `[N,
    K]`, `weight_scale` float32 `[N]`, and where present `bias` float32 `[N]`, `signs` int8 `[K]`
    (rotation), `smoothing` float32 `[K]`, `activation_clip` float32 `[2]`. Raises ValueError for
    tensors that do not belong together.
    """

    format: NumberFormat
    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None
    signs: Tensor | None
    smoothing: Tensor | None
    activation_clip: Tensor | None

    def __init__(
        self,
        format: NumberFormat,
        weight: Tensor,
        weight_scale: Tensor,
        bias: Tensor | None = None,
        signs: Tensor | None = None,
        smoothing: Tensor | None = None,
        activation_clip: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.format = format
        self.out_features = weight.shape[0]
        self.in_features = weight.shape[1] * format.codes_to_a_byte
        n, k = self.out_features, self.in_features
        expected = {
            "weight": (weight, (n, weight.shape[1]), torch.uint8 if format.packed else torch.int8),
            "weight_scale": (weight_scale, (n,), torch.float32),
            "bias": (bias, (n,), torch.float32),
            "signs": (signs, (k,), torch.int8),
            "smoothing": (smoothing, (k,), torch.float32),
            "activation_clip": (activation_clip, (2,), torch.float32),
        }
        for name, (tensor, shape, dtype) in expected.items():
            if tensor is not None and (tuple(tensor.shape) != shape or tensor.dtype != dtype):
                raise ValueError(
                    f"{format.name} layer: {name} is {tensor.dtype} {tuple(tensor.shape)}; "
                    f"expected {dtype} {shape}"
                )
            self.register_buffer(name, tensor)

    @classmethod
    def from_float(
        cls,
        format: NumberFormat,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        signs: Tensor | None = None,
        smoothing: Tensor | None = None,
        weight_clip: Tensor | None = None,
        activation_clip: Tensor | None = None,
    ) -> QuantizedLinear:
        """Quantises a float weight `[N, K]` after rotating and smoothing it. Round to nearest; see
        `reference`."""
        transformed = reference.transform_weight(weight, signs, smoothing)
        codes, scale = reference.quantize_weight(transformed, format.weight_bits, weight_clip)
        stored = reference.stored_weight(codes, format.codes_to_a_byte)
        bias = None if bias is None else bias.float()
        return cls(format, stored, scale, bias, signs, smoothing, activation_clip)

    @property
    def arithmetic(self) -> str:
        """What its products are computed in: the name of its format."""
        return self.format.name

    def activation_tensors(self) -> dict[str, Tensor]:
        """What belongs to the width of its activations, as `with_activations` takes it."""
        parts = {
            "weight_scale": self.weight_scale,
            "bias": self.bias,
            "activation_clip": self.activation_clip,
        }
        return {name: tensor for name, tensor in parts.items() if tensor is not None}

    def with_activations(
        self,
        format: NumberFormat,
        weight_scale: Tensor,
        bias: Tensor | None = None,
        activation_clip: Tensor | None = None,
    ) -> QuantizedLinear:
        """The same codes, rotation and smoothing for activations of another width; shares their
        storage. `format` must store the weight alike."""
        return QuantizedLinear(
            format, self.weight, weight_scale, bias, self.signs, self.smoothing, activation_clip
        )

    def runs_natively(self, path: KernelPath) -> bool:
        """Whether `path` has kernels for this layer; otherwise its definition in plain torch
        computes it."""
        fits = path.fits(self.in_features, self.signs is not None)
        return self.format.rounds_activations and "linear" in path.operators and fits

    def weight_codes(self) -> Tensor:
        """The weight's codes `[N, K]`, int8."""
        return reference.weight_codes(self.weight)

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
        """`residual + layer_scale * layer(gelu(norm(x)))`: `[..., K]` to `[..., N]` in `dtype`, by
        default that of `x`. With `gated`, x is (a | b) `[..., 2K]` and the layer sees `silu(a) *
        b`.

        What stands around the layer in a transformer block may be given along, and is computed in
        the same pass; see `kernels.ops.linear`. `outputs` are the features to compute, by index
        or as a range, where not all N are wanted.
        """
        features = (2 if gated else 1) * self.in_features
        if x.shape[-1] != features:
            raise ValueError(f"input has {x.shape[-1]} features; this layer takes {features}")
        weight, scale, bias = self.weight, self.weight_scale, self.bias
        if outputs is not None:
            weight, scale = weight[outputs], scale[outputs]
            bias = None if bias is None else bias[outputs]
        return ops.linear(
            x.contiguous(),
            weight,
            scale,
            bias,
            activation_bits=self.format.activation_bits,
            weight_bits=self.format.stored_bits,
            norm_weight=None if norm is None else norm.weight,
            norm_bias=None if norm is None else norm.bias,
            norm_eps=ops.NORM_EPS if norm is None else norm.eps,
            gelu=gelu,
            gated=gated,
            signs=self.signs,
            smoothing=self.smoothing,
            clip=self.activation_clip,
            layer_scale=layer_scale,
            residual=None if residual is None else residual.contiguous(),
            dtype=dtype,
        )

    def extra_repr(self) -> str:
        rotated, smoothed = self.signs is not None, self.smoothing is not None
        shape = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{self.format.name}, {shape}, {rotated=}, {smoothed=}"
