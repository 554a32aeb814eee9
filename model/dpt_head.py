"""Dense prediction head (Ranftl et al., "Vision Transformers for Dense Prediction", 2021) as VGGT uses it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.activations import activate_dense
from model.config import DPTHeadConfig
from model.position_maps import add_view_position

FRAMES_PER_CHUNK = 8


def _resize(features: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(features, size=size, mode="bilinear", align_corners=True)


class ResidualConvUnit(nn.Module):
    """Two 3x3 convolutions. The skip connection carries the *rectified* input, as the public weights were trained."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return x + self.conv2(F.relu(self.conv1(x)))


class FusionBlock(nn.Module):
    """Adds a finer level to the running map, refines, resizes to `size`, mixes channels."""

    def __init__(self, features: int, has_skip: bool = True) -> None:
        super().__init__()
        if has_skip:
            self.resConfUnit1 = ResidualConvUnit(features)
        self.resConfUnit2 = ResidualConvUnit(features)
        self.out_conv = nn.Conv2d(features, features, 1)

    def forward(self, x: Tensor, skip: Tensor | None, size: tuple[int, int]) -> Tensor:
        if skip is not None:
            x = x + self.resConfUnit1(skip)
        return self.out_conv(_resize(self.resConfUnit2(x), size))


class Scratch(nn.Module):
    """The decoder: four levels brought to one width, fused from coarse to fine, then the output convolutions."""

    def __init__(self, config: DPTHeadConfig) -> None:
        super().__init__()
        width = config.features
        for level, channels in enumerate(config.out_channels, start=1):
            setattr(self, f"layer{level}_rn", nn.Conv2d(channels, width, 3, padding=1, bias=False))
        self.refinenet1 = FusionBlock(width)
        self.refinenet2 = FusionBlock(width)
        self.refinenet3 = FusionBlock(width)
        self.refinenet4 = FusionBlock(width, has_skip=False)
        if config.feature_only:
            self.output_conv1 = nn.Conv2d(width, width, 3, padding=1)
        else:
            self.output_conv1 = nn.Conv2d(width, width // 2, 3, padding=1)
            self.output_conv2 = nn.Sequential(
                nn.Conv2d(width // 2, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, config.output_dim, 1)
            )

    def fuse(self, levels: list[Tensor]) -> Tensor:
        """One map at twice the finest level's size from four maps, fine to coarse."""
        l1, l2, l3, l4 = (getattr(self, f"layer{i}_rn")(level) for i, level in enumerate(levels, start=1))
        x = self.refinenet4(l4, None, l3.shape[-2:])
        x = self.refinenet3(x, l3, l2.shape[-2:])
        x = self.refinenet2(x, l2, l1.shape[-2:])
        x = self.refinenet1(x, l1, (2 * l1.shape[-2], 2 * l1.shape[-1]))
        return self.output_conv1(x)


class DPTHead(nn.Module):
    """From tokens of four layers to one value and one confidence per pixel; frames are independent of each other."""

    def __init__(self, dim: int, patch_size: int, patch_start: int, config: DPTHeadConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_size = patch_size
        self.patch_start = patch_start
        c0, c1, _, c3 = config.out_channels
        self.norm = nn.LayerNorm(dim)
        self.projects = nn.ModuleList(nn.Conv2d(dim, channels, 1) for channels in config.out_channels)
        self.resize_layers = nn.ModuleList(
            (
                nn.ConvTranspose2d(c0, c0, 4, stride=4),
                nn.ConvTranspose2d(c1, c1, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(c3, c3, 3, stride=2, padding=1),
            )
        )
        self.scratch = Scratch(config)

    @property
    def layers(self) -> tuple[int, ...]:
        """The aggregator layers it reads."""
        return self.config.intermediate_layer_idx

    def features(
        self, tokens: Mapping[int, Tensor], image_size: tuple[int, int], frames_chunk_size: int = FRAMES_PER_CHUNK
    ) -> Tensor:
        """Feature maps `[B, S, features, H / down_ratio, W / down_ratio]` (for a head with `feature_only`)."""
        return self._in_chunks(tokens, image_size, frames_chunk_size)

    def forward(
        self, tokens: Mapping[int, Tensor], image_size: tuple[int, int], frames_chunk_size: int = FRAMES_PER_CHUNK
    ) -> tuple[Tensor, Tensor]:
        """Values `[B, S, H, W, output_dim - 1]` and confidence `[B, S, H, W]`.

        `tokens[layer]` is `[B, S, P, 2C]`; at most `frames_chunk_size` frames are decoded at a time.
        """
        raw = self._in_chunks(tokens, image_size, frames_chunk_size)
        values, confidence = activate_dense(raw.flatten(0, 1), self.config.activation, self.config.conf_activation)
        return values.unflatten(0, raw.shape[:2]), confidence.unflatten(0, raw.shape[:2])

    def _in_chunks(self, tokens: Mapping[int, Tensor], image_size: tuple[int, int], chunk: int) -> Tensor:
        batch, frames = tokens[self.layers[0]].shape[:2]
        if chunk < 1:
            raise ValueError(f"frames_chunk_size is {chunk}; expected at least 1")
        parts = []
        for start in range(0, frames, chunk):
            part = slice(start, start + chunk)
            selected = [tokens[layer][:, part, self.patch_start :].flatten(0, 1) for layer in self.layers]
            parts.append(self._decode(selected, image_size).unflatten(0, (batch, -1)))
        return torch.cat(parts, dim=1)

    def _decode(self, tokens: list[Tensor], image_size: tuple[int, int]) -> Tensor:
        height, width = image_size
        grid = (height // self.patch_size, width // self.patch_size)
        aspect = width / height
        levels = []
        for patches, project, resize in zip(tokens, self.projects, self.resize_layers, strict=True):
            level = project(self.norm(patches).transpose(1, 2).unflatten(2, grid))
            if self.config.pos_embed:
                level = add_view_position(level, aspect)
            levels.append(resize(level))
        ratio = self.config.down_ratio
        size = (int(grid[0] * self.patch_size / ratio), int(grid[1] * self.patch_size / ratio))
        fused = _resize(self.scratch.fuse(levels), size)
        if self.config.pos_embed:
            fused = add_view_position(fused, aspect)
        return fused if self.config.feature_only else self.scratch.output_conv2(fused)
