"""DINOv2-style image encoder with register tokens (Oquab et al. 2023; Darcet et al. 2023),
inference part."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.config import VisionTransformerConfig
from model.network.transformer import Block


class ImageNormalisation(nn.Module):
    """Takes ImageNet's mean off images `[N, 3, H, W]` in [0, 1] and divides by its deviation, as
    encoders are trained to see them."""

    _mean: Tensor
    _std: Tensor

    def __init__(self) -> None:
        super().__init__()
        # the explicit device keeps these constants real in a network that is built without storage
        for name, values in (("_mean", (0.485, 0.456, 0.406)), ("_std", (0.229, 0.224, 0.225))):
            self.register_buffer(
                name, torch.tensor(values, device="cpu").view(1, 3, 1, 1), persistent=False
            )

    def forward(self, images: Tensor) -> Tensor:
        return (images - self._mean) / self._std


class PatchProjection(nn.Conv2d):
    """A convolution with kernel = stride as a matrix product: `[N, 3, H, W]` to `[N, h * w, C]`,
    row-major.

    It is faster, and its last bits do not depend on how the images lie in memory, nor on how many
    there are: every image is a product of its own.
    """

    def forward(self, images: Tensor) -> Tensor:
        rows, columns = self.kernel_size
        # [N, 3, h, rows, w, columns]
        tiles = images.unflatten(3, (-1, columns)).unflatten(2, (-1, rows))
        patches = tiles.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        weight = self.weight.flatten(1)
        return torch.stack([F.linear(image, weight, self.bias) for image in patches])


class PatchEmbed(nn.Module):
    """Every patch of `[N, 3, H, W]` as a token: `[N, h * w, C]`, row-major."""

    def __init__(self, patch_size: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = PatchProjection(3, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images)


def resized_positions(
    table: Tensor, rows: int, columns: int, *, offset: float = 0.0, antialias: bool = True
) -> Tensor:
    """A square position table `[1, 1 + side * side, C]`, class token first, resized to a patch grid
    (bicubic): `[1, 1 + rows * columns, C]`.

    With an `offset` the scale (n + offset) / side rather than the size is given to the resize, as
    DINOv2 does. At exactly its own size the table is used as it is.
    """
    side = round((table.shape[1] - 1) ** 0.5)
    if rows == side and columns == side:
        return table
    grid = table[:, 1:].float().view(1, side, side, -1).permute(0, 3, 1, 2)
    if offset:
        factors = ((rows + offset) / side, (columns + offset) / side)
        grid = F.interpolate(grid, scale_factor=factors, mode="bicubic", antialias=antialias)
    else:
        grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=antialias)
    patches = grid.flatten(2).transpose(1, 2).to(table.dtype)
    return torch.cat((table[:, :1], patches), dim=1)


@dataclass(frozen=True)
class EncodedImages:
    """Encoder output for N images: `prenorm` `[N, 1 + R + h*w, C]` and the normalised tokens by
    kind."""

    prenorm: Tensor
    class_token: Tensor  # [N, C]
    register_tokens: Tensor  # [N, R, C]
    patch_tokens: Tensor  # [N, h*w, C]


class VisionTransformer(nn.Module):
    """Token order: class, registers, patches. Only class and patches carry a position.

    `mask_token` is part of some public checkpoints and unused at inference.
    """

    def __init__(self, config: VisionTransformerConfig, mask_token: bool = True) -> None:
        super().__init__()
        self.config = config
        dim = config.embed_dim
        self.table_side = config.img_size // config.patch_size
        self.patch_embed = PatchEmbed(config.patch_size, dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.table_side**2, dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, config.num_register_tokens, dim))
        if mask_token:
            self.mask_token = nn.Parameter(torch.zeros(1, dim), requires_grad=False)
        self.blocks = nn.ModuleList(
            Block(dim, config.num_heads, config.mlp_ratio, config.init_values, norm_eps=1e-6)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def positions(self, rows: int, columns: int) -> Tensor:
        """The position table resized to a patch grid; see `resized_positions`."""
        config = self.config
        return resized_positions(
            self.pos_embed,
            rows,
            columns,
            offset=config.interpolate_offset,
            antialias=config.interpolate_antialias,
        )

    def embed(self, images: Tensor) -> Tensor:
        """What the first block takes: tokens `[N, 1 + R + h*w, C]` of normalised images `[N, 3, H,
        W]`."""
        count, _, height, width = images.shape
        patch = self.config.patch_size
        tokens = torch.cat((self.cls_token.expand(count, -1, -1), self.patch_embed(images)), dim=1)
        tokens = tokens + self.positions(height // patch, width // patch)
        registers = self.register_tokens.expand(count, -1, -1)
        return torch.cat((tokens[:, :1], registers, tokens[:, 1:]), dim=1)

    def finish(self, tokens: Tensor) -> EncodedImages:
        """The encoder's answer from the tokens that the last block gives."""
        normalised = self.norm(tokens)
        first_patch = 1 + self.config.num_register_tokens
        return EncodedImages(
            tokens, normalised[:, 0], normalised[:, 1:first_patch], normalised[:, first_patch:]
        )

    def forward(self, images: Tensor) -> EncodedImages:
        """Encodes normalised images `[N, 3, H, W]`; H and W are multiples of the patch size."""
        tokens = self.embed(images)
        for block in self.blocks:
            tokens = block(tokens)
        return self.finish(tokens)
