"""The transformer block shared by the image encoder, the alternating attention and the camera
head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import QuantizedLinear, kernel_path, ops
from model.network.rope import Rotation

ATTENTION = ("float", "int8")
_TOKENS_PER_CHUNK = 1374  # those of a picture of 518 x 518 pixels


class LayerScale(nn.Module):
    """One learned gain per channel (Touvron et al., "Going deeper with Image Transformers",
    2021)."""

    def __init__(self, dim: int, init_values: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init_values))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def _surrounded(
    layer: nn.Module,
    x: Tensor,
    *,
    norm: nn.LayerNorm | None = None,
    gelu: bool = False,
    scale: LayerScale | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """`residual + scale(layer(gelu(norm(x))))`; a quantised layer does all of it in one pass over
    its input."""
    if isinstance(layer, QuantizedLinear):
        gamma = None if scale is None else scale.gamma
        dtype = _product_dtype(x) if residual is None else residual.dtype
        return layer(x, norm=norm, gelu=gelu, layer_scale=gamma, residual=residual, dtype=dtype)
    x = x if norm is None else norm(x)
    y = layer(F.gelu(x) if gelu else x)
    y = y if scale is None else scale(y)
    return y if residual is None else residual + y


def _product_dtype(x: Tensor) -> torch.dtype:
    """What a matrix product of `x` comes out in: under autocast the narrower type, as torch's own
    products."""
    kind = x.device.type
    narrow = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if narrow else x.dtype


class Attention(nn.Module):
    """Multi-head self-attention with optional normalisation of queries and keys. Input and output
    `[B, N, C]`.

    `arithmetic` is "float", or "int8" where `kernels.ops.int8_attention` may run: it does on a
    device that has a kernel for it; elsewhere torch's attention runs, which is faster than the
    definition.
    """

    arithmetic = "float"

    def __init__(self, dim: int, num_heads: int, qk_norm: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm: nn.Module = nn.LayerNorm(dim // num_heads) if qk_norm else nn.Identity()
        self.k_norm: nn.Module = nn.LayerNorm(dim // num_heads) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def heads(
        self, x: Tensor, rope: Rotation | None = None, norm: nn.LayerNorm | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each `[B, heads, N, C / heads]`; queries and keys normalised
        and rotated."""
        batch, tokens, width = x.shape
        qkv = _surrounded(self.qkv, x, norm=norm).view(
            batch, tokens, 3, self.num_heads, width // self.num_heads
        )
        if not qkv.requires_grad and (rope is None or len(rope.cos) == 1):
            q, k = self._fused_heads(qkv, rope)
            return q, k, qkv[:, :, 2].transpose(1, 2)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = rope.apply(q), rope.apply(k)
        return q, k, v

    def _fused_heads(self, qkv: Tensor, rope: Rotation | None) -> tuple[Tensor, Tensor]:
        if rope is None and isinstance(self.q_norm, nn.Identity):
            return qkv[:, :, 0].transpose(1, 2), qkv[:, :, 1].transpose(1, 2)
        return ops.qk_norm_rope(
            qkv,
            q_weight=getattr(self.q_norm, "weight", None),
            q_bias=getattr(self.q_norm, "bias", None),
            k_weight=getattr(self.k_norm, "weight", None),
            k_bias=getattr(self.k_norm, "bias", None),
            norm_eps=getattr(self.q_norm, "eps", ops.NORM_EPS),
            cos=None if rope is None else rope.cos[0, 0].float(),
            sin=None if rope is None else rope.sin[0, 0].float(),
        )

    def forward(
        self,
        x: Tensor,
        rope: Rotation | None = None,
        *,
        norm: nn.LayerNorm | None = None,
        scale: LayerScale | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        q, k, v = self.heads(x, rope, norm)
        if self.arithmetic == "int8" and "int8_attention" in kernel_path(q.device).operators:
            mixed = ops.int8_attention(q, k, v)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return _surrounded(self.proj, mixed.flatten(2), scale=scale, residual=residual)


class MLP(nn.Module):
    """Two linear layers around an exact (erf) GELU."""

    def __init__(self, dim: int, hidden_dim: int, out_dim: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim if out_dim is None else out_dim)

    def forward(
        self,
        x: Tensor,
        *,
        norm: nn.LayerNorm | None = None,
        scale: LayerScale | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        hidden = _surrounded(self.fc1, x, norm=norm)
        return _surrounded(self.fc2, hidden, gelu=True, scale=scale, residual=residual)


class Block(nn.Module):
    """Pre-norm transformer block: `x += ls1(attn(norm1(x)))`, then `x += ls2(mlp(norm2(x)))`."""

    normed: ClassVar[Mapping[str, str]] = {"attn.qkv": "norm1", "mlp.fc1": "norm2"}
    """The linear layers whose input comes from a LayerNorm, and from which."""
    scaled: ClassVar[Mapping[str, str]] = {"attn.proj": "ls1", "mlp.fc2": "ls2"}
    """The linear layers whose output goes through a LayerScale, and through which."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        init_values: float = 0.01,
        qk_norm: bool = False,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads, qk_norm)
        self.ls1 = LayerScale(dim, init_values)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = MLP(dim, int(dim * mlp_ratio))
        self.ls2 = LayerScale(dim, init_values)

    def forward(self, x: Tensor, rope: Rotation | None = None) -> Tensor:
        if torch.is_grad_enabled() or x.is_cuda:  # a GPU would only copy more, and has the room
            return self._mixed(self._attended(x, rope))
        # What lies between two layers is several times as large as x: a CPU's caches hold that of a
        # few tokens only.
        parts = [
            self._attended(part, rope) for part in x.split(max(1, _TOKENS_PER_CHUNK // x.shape[1]))
        ]
        mixed = [
            self._mixed(chunk)
            for part in parts
            for chunk in part.flatten(0, 1).split(_TOKENS_PER_CHUNK)
        ]
        return (mixed[0] if len(mixed) == 1 else torch.cat(mixed)).view(x.shape)

    def _attended(self, x: Tensor, rope: Rotation | None) -> Tensor:
        return self.attn(x, rope, norm=self.norm1, scale=self.ls1, residual=x)

    def _mixed(self, x: Tensor) -> Tensor:
        return self.mlp(x, norm=self.norm2, scale=self.ls2, residual=x)
