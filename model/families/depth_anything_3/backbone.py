"""The one transformer: blocks that see every frame by itself, then local and global ones in turn
(Depth Anything 3, section 3)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, MutableMapping

import torch
from torch import Tensor, nn

from model.families.depth_anything_3 import reference_view
from model.families.depth_anything_3.config import DepthAnything3Config
from model.network.keys import keys_of_images
from model.network.network import Kind
from model.network.parts import tokens_at_once
from model.network.rope import Rotation, patch_positions, rotation
from model.network.transformer import Block
from model.network.vision_transformer import (
    ImageNormalisation,
    PatchEmbed,
    resized_positions,
)

SPECIAL_TOKENS = 1
"""Of a frame: its class token, which block `alt_start` finds replaced by a camera token."""

_TABLE_OFFSET = 0.1  # DINOv2's, of the position table
_ORDER = "order"  # of the views, where a reference was moved to the front


class Backbone(nn.Module):
    """Turns images into tokens: per frame one class or camera token, then patches row-major."""

    def __init__(self, config: DepthAnything3Config) -> None:
        super().__init__()
        self.config = config
        dim, start = config.embed_dim, config.alt_start
        side = config.img_size // config.patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side**2, dim))
        if config.any_view:
            self.camera_token = nn.Parameter(torch.zeros(1, 2, dim))
        self.patch_embed = PatchEmbed(config.patch_size, dim)
        blocks = {
            index: Block(
                dim,
                config.num_heads,
                config.mlp_ratio,
                config.init_values,
                qk_norm=start is not None and index >= start,
                norm_eps=1e-6,
                gated=config.gated,
            )
            for index in range(config.depth)
        }
        first = config.first_scene_block
        self.frame_blocks = nn.ModuleDict({str(i): b for i, b in blocks.items() if i < first})
        self.scene_blocks = nn.ModuleDict({str(i): b for i, b in blocks.items() if i >= first})
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.normalisation = ImageNormalisation()

    def blocks(self) -> list[nn.Module]:
        """In the order in which they run; in the network they have their place in it as a name."""
        return [*self.frame_blocks.values(), *self.scene_blocks.values()]

    def kind(self, index: int) -> Kind:
        """What block `index` attends over: from `alt_start` on, odd ones over the scene."""
        start = self.config.alt_start
        return "global" if start is not None and index >= start and index % 2 else "local"

    def layers(
        self,
        images: Tensor,
        layers: Collection[int],
        attention_keys: int | None = None,
        camera_tokens: Tensor | None = None,
    ) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """The asked layers one by one, as soon as they are there: (layer, tokens `[B, S, 1 + P, C]`
        of its parts), views in the given order.

        Parts are what the last local block gave and what this one gives, neither normalised; in
        networks for single pictures the latter alone. `camera_tokens` `[B, S, C]` stand for known
        cameras; without them the camera tokens are learned ones, and of three views or more one is
        chosen as the reference. See `Network.forward` for `attention_keys`.
        """
        batch, frames = images.shape[:2]
        tokens = self.embed(images)
        ropes = self.ropes(images, tokens.dtype)
        keys = keys_of_images(images, self.config.patch_size, SPECIAL_TOKENS, attention_keys)
        kept: dict[str, Tensor] = {}
        local: Tensor | None = None
        for index, block in enumerate(self.blocks()):
            tokens = self.enter(index, tokens, batch, frames, kept, camera_tokens)
            tokens = block(tokens, *self.attends(index, ropes, keys))
            if self.kind(index) == "local":
                wanted = {index, index + 1} & set(layers) and self.config.any_view
                local = tokens if wanted else None
            if index in layers:
                parts = (tokens,) if local is None else (local, tokens)
                yield index, tuple(self.leave(part, batch, frames, kept) for part in parts)

    def embed(self, images: Tensor) -> Tensor:
        """What the first block takes: tokens `[B * S, 1 + P, C]` of images `[B, S, 3, H, W]`."""
        patch = self.config.patch_size
        table = resized_positions(
            self.pos_embed,
            images.shape[-2] // patch,
            images.shape[-1] // patch,
            offset=_TABLE_OFFSET,
            antialias=False,
        )
        count = max(1, tokens_at_once(images.device) // table.shape[1])
        patches = [
            self.patch_embed(self.normalisation(some)) for some in images.flatten(0, 1).split(count)
        ]
        first = self.cls_token.expand(images.shape[0] * images.shape[1], -1, -1)
        return torch.cat((first, torch.cat(patches)), dim=1) + table

    def enter(
        self,
        index: int,
        tokens: Tensor,
        batch: int,
        frames: int,
        kept: MutableMapping[str, Tensor],
        camera_tokens: Tensor | None = None,
    ) -> Tensor:
        """What block `index` takes, from the tokens that the block before it gave: `[B * S, 1 + P,
        C]` where it is local, `[B, S * (1 + P), C]` where it is global.

        `kept` is filled here and read by `leave`: one for a pass, empty at first.
        """
        start = self.config.alt_start
        tokens = tokens.reshape(batch, frames, -1, tokens.shape[-1])
        if start is not None and index == start - 1:
            free = camera_tokens is None and frames >= reference_view.LEAST_VIEWS
            if free:
                chosen = reference_view.choose(tokens[:, :, 0], self.config.reference_view)
                kept[_ORDER] = reference_view.order_with_first(chosen, frames)
                tokens = reference_view.arranged(tokens, kept[_ORDER])
        if index == start:
            if camera_tokens is None:
                first, other = self.camera_token[:, :1], self.camera_token[:, 1:]
                camera_tokens = torch.cat((first, other.expand(-1, frames - 1, -1)), dim=1)
            special = camera_tokens.expand(batch, -1, -1)[:, :, None].to(tokens.dtype)
            tokens = torch.cat((special, tokens[:, :, 1:]), dim=2)
        groups = batch if self.kind(index) == "global" else batch * frames
        return tokens.reshape(groups, -1, tokens.shape[-1])

    def leave(
        self, tokens: Tensor, batch: int, frames: int, kept: MutableMapping[str, Tensor]
    ) -> Tensor:
        """The tokens of a block as `[B, S, 1 + P, C]`, views in the given order."""
        tokens = tokens.view(batch, frames, -1, tokens.shape[-1])
        if _ORDER not in kept:
            return tokens
        return reference_view.arranged(tokens, kept[_ORDER].argsort(dim=-1))

    def ropes(self, images: Tensor, dtype: torch.dtype) -> dict[Kind, Rotation]:
        """Rotary angles by kind of block: local ones know where in the picture a patch is, global
        ones only that it is one."""
        rows, columns = (side // self.config.patch_size for side in images.shape[-2:])
        head_dim = self.config.embed_dim // self.config.num_heads
        positions = patch_positions(rows, columns, SPECIAL_TOKENS, images.device)
        local = rotation(positions, head_dim, self.config.rope_freq, dtype)
        alike = rotation(positions.clamp(max=1), head_dim, self.config.rope_freq, dtype)
        return {"local": local, "global": alike}

    def attends(
        self, index: int, ropes: dict[Kind, Rotation], keys: Tensor | None = None
    ) -> tuple[Rotation | None, Tensor | None]:
        """What block `index` takes beside its tokens: rotary angles, and the keys it may look
        at."""
        start, kind = self.config.alt_start, self.kind(index)
        rope = ropes[kind] if start is not None and index >= start else None
        return rope, keys if kind == "global" else None
