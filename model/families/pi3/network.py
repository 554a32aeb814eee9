"""The network: encoder, alternating decoder and heads, with the public names of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from model.families.pi3.config import Pi3Config
from model.families.pi3.heads import (
    NORM_EPS,
    CameraHead,
    ConvHead,
    LinearHead,
    TransformerHead,
)
from model.families.pi3.metric import MetricDecoder, metres
from model.network.dpt_head import DPTHead, chunk_bytes
from model.network.keys import keys_of_images
from model.network.network import Kind, Network, Stage, checked_frames
from model.network.parts import tokens_at_once
from model.network.prediction import Prediction
from model.network.rope import Rotation, patch_positions, rotation
from model.network.transformer import Block
from model.network.vision_transformer import ImageNormalisation, VisionTransformer

SPECIAL_TOKENS = 5
"""Registers of a frame, the same for every one."""
_LARGEST_LOG_DEPTH = 15.0


class Pi3(Network):
    """pi3 (Wang et al., "Permutation-Equivariant Visual Geometry Learning", 2025) or Pi3X, for
    pictures alone."""

    config: Pi3Config

    def __init__(self, config: Pi3Config) -> None:
        super().__init__()
        self.config = config
        dim, width, patch = config.embed_dim, config.head_dim, config.patch_size
        self.register_token = nn.Parameter(torch.zeros(1, 1, SPECIAL_TOKENS, dim))
        self.encoder = VisionTransformer(config.encoder, mask_token=False)
        self.decoder = nn.ModuleList(
            Block(
                dim,
                config.decoder_heads,
                config.mlp_ratio,
                config.init_values,
                qk_norm=True,
                norm_eps=NORM_EPS,
            )
            for _ in range(config.decoder_depth)
        )
        self.point_head: nn.Module | None = None
        self.camera_head: CameraHead | None = None
        self.metric_decoder: MetricDecoder | None = None
        if "depth" in config.heads:
            self.point_decoder = TransformerHead(config, width)
            self.conf_decoder = TransformerHead(config, width)
            if config.conv_head is None:
                self.point_head = LinearHead(width, patch, 3)
                self.conf_head: nn.Module = LinearHead(width, patch, 1)
            else:
                self.point_head = ConvHead(width, patch, (2, 1), config.conv_head)
                self.conf_head = ConvHead(width, patch, (1,), config.conv_head)
        if "camera" in config.heads:
            self.camera_decoder = TransformerHead(config, config.camera_dim)
            self.camera_head = CameraHead(config.camera_dim)
        if "metric" in config.heads:
            self.metric_token = nn.Parameter(torch.zeros(1, 1, 2 * dim))
            self.metric_decoder = MetricDecoder(config)
            self.metric_head = nn.Linear(config.metric_dim, 1)
        self.normalisation = ImageNormalisation()

    @property
    def decoders(self) -> list[str]:
        """Names of the heads' transformers that are present, in the order in which they run."""
        depth = ["point_decoder", "conf_decoder"] if "depth" in self.config.heads else []
        return [*depth, *(["camera_decoder"] if "camera" in self.config.heads else [])]

    def blocks(self) -> tuple[Stage, ...]:
        """Those of the encoder, of the decoder, where every other one is over the scene, and of the
        heads' transformers."""
        kinds: tuple[Kind, Kind] = ("local", "global")
        config = self.config
        return (
            *(Stage(f"encoder.blocks.{i}", "local") for i in range(config.encoder_depth)),
            *(Stage(f"decoder.{i}", kinds[i % 2]) for i in range(config.decoder_depth)),
            *(
                Stage(f"{name}.blocks.{i}", "local")
                for name in self.decoders
                for i in range(config.head_depth)
            ),
        )

    def heads(self, with_tracks: bool = False) -> list[nn.Module]:
        """Point head, confidence head, camera head and metric decoder; no track head."""
        confidence = self.conf_head if self.point_head is not None else None
        found = (self.point_head, confidence, self.camera_head, self.metric_decoder)
        return [head for head in found if head is not None]

    def describe_at(self) -> tuple[nn.Module, Callable[[Any], Tensor]]:
        """The image encoder, which sees every frame by itself."""
        return self.encoder, lambda encoded: encoded.patch_tokens

    def dense(self) -> list[DPTHead]:
        """None: no head of this family is a DPT."""
        return []

    def forward(
        self,
        images: Tensor,
        query_points: Tensor | None = None,
        attention_keys: int | None = None,
    ) -> Prediction:
        """Predicts cameras and points in their frames.

        `pose_enc` is the camera-to-world motion `[B, S, 12]`, `depth_conf` a logit. See
        `Network.forward`; raises ValueError for query points as well.
        """
        images = checked_frames(images, self.config.patch_size)
        if query_points is not None:
            raise ValueError("query_points were given, but this network has no track head")
        batch, frames = images.shape[:2]
        size = (images.shape[-2], images.shape[-1])
        tokens = self.decode(self.encode(images), images, attention_keys)
        with torch.autocast(images.device.type, enabled=False):
            tokens = tokens.float()
            rope = self.rope(size, self.config.head_dim // self.config.head_heads, tokens)
            points = confidence = cameras = None
            if self.point_head is not None:
                hidden = self.point_decoder(tokens, rope)[:, SPECIAL_TOKENS:]
                points = self._in_parts(hidden, lambda some: self.local_points(some, size), size)
                hidden = self.conf_decoder(tokens, rope)[:, SPECIAL_TOKENS:]
                confidence = self._in_parts(hidden, lambda s: self.conf_head(s, size)[:, 0], size)
            if self.camera_head is not None:
                hidden = self.camera_decoder(tokens, rope)[:, SPECIAL_TOKENS:]
                cameras = self.camera_head(hidden)
            if self.metric_decoder is not None:
                factor = self.scale(tokens, size, batch).repeat_interleave(frames)
                points = None if points is None else points * factor[:, None, None, None]
                if cameras is not None:
                    moved = cameras[..., 3:] * factor[:, None, None]
                    cameras = torch.cat((cameras[..., :3], moved), dim=-1)

        def scenes(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.unflatten(0, (batch, frames))

        points = scenes(points)
        return Prediction(
            pose_enc=scenes(None if cameras is None else cameras.flatten(1)),
            depth=None if points is None else points[..., 2:],
            depth_conf=scenes(confidence),
            camera_points=points,
        )

    def embed(self, images: Tensor) -> Tensor:
        """What the encoder's first block takes, of images `[B, S, 3, H, W]`."""
        return self.encoder.embed(self.normalisation(images.flatten(0, 1)))

    def encode(self, images: Tensor) -> Tensor:
        """Patch tokens `[B * S, h * w, C]` of images `[B, S, 3, H, W]`."""
        flat, patch = images.flatten(0, 1), self.config.patch_size
        tokens = images.shape[-2] // patch * (images.shape[-1] // patch)
        count = max(1, tokens_at_once(images.device) // tokens)
        return torch.cat(
            [self.encoder(self.normalisation(some)).patch_tokens for some in flat.split(count)]
        )

    def with_registers(self, patches: Tensor) -> Tensor:
        """Registers before the patch tokens `[B * S, h * w, C]` of every frame."""
        return torch.cat((self.register_token[0].expand(len(patches), -1, -1), patches), dim=1)

    def decode(self, patches: Tensor, images: Tensor, attention_keys: int | None = None) -> Tensor:
        """What the heads read: tokens `[B * S, 5 + h * w, 2C]`, of the last block within frames and
        of the last over the scene."""
        batch, size = images.shape[0], (images.shape[-2], images.shape[-1])
        tokens = self.with_registers(patches)
        shape = tokens.shape
        rope = self.rope(size, self.config.embed_dim // self.config.decoder_heads, tokens)
        keys = keys_of_images(images, self.config.patch_size, SPECIAL_TOKENS, attention_keys)
        local = tokens
        for index, block in enumerate(self.decoder):
            everywhere = index % 2 == 1
            arranged = tokens.reshape(batch, -1, shape[-1]) if everywhere else tokens
            tokens = block(arranged, rope, keys if everywhere else None).view(shape)
            local = local if everywhere else tokens
        return torch.cat((local, tokens), dim=-1)

    def rope(self, size: tuple[int, int], head_dim: int, like: Tensor) -> Rotation:
        """The positions in a frame of (height, width), which all blocks turn by."""
        rows, columns = (side // self.config.patch_size for side in size)
        positions = patch_positions(rows, columns, SPECIAL_TOKENS, like.device)
        return rotation(positions, head_dim, self.config.rope_freq, like.dtype)

    def local_points(self, patches: Tensor, size: tuple[int, int]) -> Tensor:
        """Points `[n, H, W, 3]` in the frame of their own camera, from patch tokens."""
        assert self.point_head is not None
        x, y, z = self.point_head(patches, size).movedim(1, -1).unbind(-1)
        if self.config.conv_head is not None:
            z = z.clamp(max=_LARGEST_LOG_DEPTH)
        z = z.exp()
        return torch.stack((x * z, y * z, z), dim=-1)

    def scale(self, tokens: Tensor, size: tuple[int, int], batch: int) -> Tensor:
        """Metres in the network's unit of length, `[B]`, from the tokens of `decode`."""
        assert self.metric_decoder is not None
        head_dim = self.config.metric_dim // self.config.metric_heads
        rope = self.rope(size, head_dim, tokens)
        query = self.metric_token.expand(batch, -1, -1)
        scene = tokens.unflatten(0, (batch, -1)).flatten(1, 2)
        return metres(self.metric_head(self.metric_decoder(query, scene, rope)))

    def _in_parts(
        self, patches: Tensor, make: Callable[[Tensor], Tensor], size: tuple[int, int]
    ) -> Tensor:
        """`make` of a few frames at a time: maps at full size are large."""
        channels = 3 if self.config.conv_head is None else self.config.conv_head.widths[-1] + 2
        map_bytes = size[0] * size[1] * channels * patches.element_size()
        count = max(1, chunk_bytes(patches.device) // map_bytes)
        return torch.cat([make(some) for some in patches.split(count)])
