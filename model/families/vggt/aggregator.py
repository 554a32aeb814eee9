"""Alternating attention over frames and scene (Wang et al., "VGGT", 2025, section 3.2)."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn

from model.families.vggt.config import VGGTConfig
from model.network.keys import keys_of_images
from model.network.parts import in_parts, tokens_at_once
from model.network.rope import Rotation, patch_positions, rotation
from model.network.transformer import Block
from model.network.vision_transformer import (
    EncodedImages,
    ImageNormalisation,
    PatchEmbed,
    VisionTransformer,
)


class Aggregator(nn.Module):
    """Turns images into tokens: per frame one camera token, registers, then patches row-major.

    `camera_token` and `register_token` hold two sets: the first for frame 0, the second for every
    other frame.
    """

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.embed_dim
        self.patch_embed: nn.Module
        if config.encoder is None:
            self.patch_embed = PatchEmbed(config.patch_size, dim)
        else:
            self.patch_embed = VisionTransformer(config.encoder)

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(
                Block(dim, config.num_heads, config.mlp_ratio, config.init_values, config.qk_norm)
                for _ in range(config.depth)
            )

        self.frame_blocks = blocks()
        self.global_blocks = blocks()
        self.camera_token = nn.Parameter(1e-6 * torch.randn(1, 2, 1, dim))
        self.register_token = nn.Parameter(
            1e-6 * torch.randn(1, 2, config.num_register_tokens, dim)
        )
        self.normalisation = ImageNormalisation()

    @property
    def patch_start(self) -> int:
        """Index of the first patch token of a frame."""
        return 1 + self.config.num_register_tokens

    def forward(self, images: Tensor, layers: Collection[int]) -> dict[int, Tensor]:
        """Tokens `[B, S, P, 2C]` of the asked layers, channels = (frame output | global output).

        `images` `[B, S, 3, H, W]` in [0, 1]. Who can do with a layer at a time takes `layers`.
        """
        return {layer: torch.cat(halves, dim=-1) for layer, *halves in self.layers(images, layers)}

    def layers(
        self, images: Tensor, layers: Collection[int], attention_keys: int | None = None
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The asked layers one by one, as soon as they are there: (layer, frame output, global
        output), tokens `[B, S, P, C]` each.

        What is still held of a layer when the next one is asked for stays in memory. With
        `attention_keys` the queries of global blocks look at about so many tokens at the most
        (`model.network.keys`). Raises ValueError if that is below 1.
        """
        batch, frames = images.shape[:2]
        tokens = self.embed(images)
        rope = self.rope(images, tokens.dtype)
        blocks = {"frame": self.frame_blocks, "global": self.global_blocks}
        keys: dict[str, Tensor | None] = {
            "frame": None,
            "global": keys_of_images(
                images, self.config.patch_size, self.patch_start, attention_keys
            ),
        }
        halves: dict[int, dict[str, Tensor]] = {}
        for kind, layer in self.schedule:
            arranged = self.arrange(tokens, kind, batch, frames)
            tokens = blocks[kind][layer](arranged, rope, keys[kind])
            del arranged
            if layer in layers:
                halves.setdefault(layer, {})[kind] = tokens.view(
                    batch, frames, -1, tokens.shape[-1]
                )
                if len(halves[layer]) == 2:
                    yield layer, halves[layer]["frame"], halves.pop(layer)["global"]

    @property
    def schedule(self) -> list[tuple[str, int]]:
        """The blocks in the order in which they run: ("frame" or "global", index)."""
        size = self.config.aa_block_size
        starts = range(0, self.config.depth, size)
        return [
            (kind, i)
            for start in starts
            for kind in self.config.aa_order
            for i in range(start, start + size)
        ]

    def embed(self, images: Tensor) -> Tensor:
        """What the first block takes: tokens `[B * S, P, C]` of images `[B, S, 3, H, W]`."""
        patch = self.config.patch_size
        tokens = self.patch_start + images.shape[-2] // patch * (images.shape[-1] // patch)
        # the image encoder sees every frame by itself: a few of them at a time will do
        count = max(1, tokens_at_once(images.device) // tokens)
        batch, frames = images.shape[:2]
        pictures, special = images.flatten(0, 1), self._special_tokens(batch, frames)

        def encode(part: slice) -> Tensor:
            patches = patch_tokens(self.patch_embed(self.normalise(pictures[None, part])))
            return torch.cat((special[part], patches), dim=1)

        if len(pictures) <= count:
            return encode(slice(None))
        made = images.new_empty(len(pictures), tokens, self.config.embed_dim)
        return in_parts(made, count, encode)

    def normalise(self, images: Tensor) -> Tensor:
        """What the image encoder takes: `[B * S, 3, H, W]` from images `[B, S, 3, H, W]`."""
        return self.normalisation(images.flatten(0, 1))

    def with_special_tokens(self, patch_tokens: Tensor, batch: int, frames: int) -> Tensor:
        """Camera token and registers before the patch tokens `[B * S, h * w, C]` of every frame."""
        return torch.cat((self._special_tokens(batch, frames), patch_tokens), dim=1)

    def rope(self, images: Tensor, dtype: torch.dtype) -> Rotation:
        """The positions in a frame, which both kinds of blocks turn by."""
        height, width = images.shape[-2:]
        rows, columns = height // self.config.patch_size, width // self.config.patch_size
        positions = patch_positions(rows, columns, self.patch_start, device=images.device)
        head_dim = self.config.embed_dim // self.config.num_heads
        return rotation(positions, head_dim, self.config.rope_freq, dtype)

    @staticmethod
    def arrange(tokens: Tensor, kind: str, batch: int, frames: int) -> Tensor:
        """Tokens as a kind of block attends over them: `[B * S, P, C]` for "frame", `[B, S * P, C]`
        for "global"."""
        return tokens.reshape(batch if kind == "global" else batch * frames, -1, tokens.shape[-1])

    def _special_tokens(self, batch: int, frames: int) -> Tensor:
        both = torch.cat((self.camera_token, self.register_token), dim=2)  # [1, 2, 1 + R, C]
        per_frame = torch.cat((both[:, :1], both[:, 1:].expand(-1, frames - 1, -1, -1)), dim=1)
        return per_frame.expand(batch, -1, -1, -1).flatten(0, 1)


def patch_tokens(encoded: Tensor | EncodedImages) -> Tensor:
    """The tokens `[N, h * w, C]` of N frames in what either kind of `Aggregator.patch_embed`
    gives."""
    return encoded if isinstance(encoded, Tensor) else encoded.patch_tokens
