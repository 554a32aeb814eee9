"""The network: backbone and heads, with the public checkpoint's tensor names but for their
prefixes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from model.families.depth_anything_3.backbone import SPECIAL_TOKENS, Backbone
from model.families.depth_anything_3.cameras import (
    CameraDecoder,
    CameraEncoder,
    cameras_to_encoding,
    normalised,
)
from model.families.depth_anything_3.config import DepthAnything3Config
from model.families.depth_anything_3.dense_head import DenseHead
from model.families.depth_anything_3.rays import cameras_from_rays
from model.network.dpt_head import DPTHead
from model.network.network import Network, Stage, checked_frames
from model.network.prediction import Prediction


def block_name(config: DepthAnything3Config, index: int) -> str:
    """What a block of the backbone is called in the network; in the public checkpoint it is
    `backbone.pretrained.blocks.<index>`."""
    row = "frame_blocks" if index < config.first_scene_block else "scene_blocks"
    return f"backbone.{row}.{index}"


class DepthAnything3(Network):
    """Depth Anything 3 (Lin et al., "Recovering the Visual Space from Any Views", 2025)."""

    config: DepthAnything3Config

    def __init__(self, config: DepthAnything3Config) -> None:
        super().__init__()
        self.config = config
        camera = "camera" in config.heads
        self.backbone = Backbone(config)
        self.head = DenseHead(config) if "depth" in config.heads else None
        self.cam_dec = CameraDecoder(config) if camera else None
        self.cam_enc = CameraEncoder(config) if camera else None

    def blocks(self) -> tuple[Stage, ...]:
        """Those of the backbone: all local at first, then every other one over the scene."""
        return tuple(
            Stage(block_name(self.config, index), self.backbone.kind(index))
            for index in range(self.config.depth)
        )

    def heads(self, with_tracks: bool = False) -> list[nn.Module]:
        """Camera decoder and dense head; no member of the family follows points."""
        return [head for head in (self.cam_dec, self.head) if head is not None]

    def describe_at(self) -> tuple[nn.Module, Callable[[Any], Tensor]]:
        """The last block before a reference view is chosen, which sees every frame by itself."""
        start = self.config.alt_start
        last = self.config.depth - 1 if start is None else max(0, start - 2)
        return self.backbone.blocks()[last], lambda tokens: tokens[:, SPECIAL_TOKENS:]

    def dense(self) -> list[DPTHead]:
        """The dense head."""
        return [] if self.head is None else [self.head]

    def forward(
        self,
        images: Tensor,
        query_points: Tensor | None = None,
        attention_keys: int | None = None,
        cameras: tuple[Tensor, Tensor] | None = None,
    ) -> Prediction:
        """Predicts cameras and depth, or depth and sky of pictures one by one. With the rays head
        cameras are those that its maps tell.

        Images and `attention_keys`: see `Network.forward`. `cameras` are known ones: extrinsics
        `[B, S, 4, 4]`, world-to-camera, and intrinsics `[B, S, 3, 3]` in pixels; what is predicted
        then stands in the first one's frame, in a length unit of its own. Heads and the camera
        encoder run in float32. Raises ValueError for any other shape, and for query points.
        """
        images = checked_frames(images, self.config.patch_size)
        if query_points is not None:
            raise ValueError("query_points were given, but this network has no track head")
        size = (images.shape[-2], images.shape[-1])
        levels = None if self.head is None else self.head.begin(size)
        last = self.config.depth - 1
        layers = {last, *(() if self.head is None else self.head.layers)}
        first_token: Tensor | None = None
        known = None if cameras is None else self.camera_tokens(*cameras, size)
        for layer, parts in self.backbone.layers(images, layers, attention_keys, known):
            with torch.autocast(images.device.type, enabled=False):
                if levels is not None:
                    levels.take(layer, *self.as_read(parts))
            if layer == last:
                first_token = torch.cat([part[:, :, 0] for part in parts], dim=-1)
            del parts  # or they would be held through the next block

        encoding = depth = confidence = sky = None
        with torch.autocast(images.device.type, enabled=False):
            if self.cam_dec is not None:
                assert first_token is not None
                encoding = self.cam_dec(first_token.float())
            if self.head is not None:
                depth, other, *rays = self.head(levels, size)
                if rays:
                    encoding = self._seen_by_rays(rays[0], rays[1], size)
                confidence, sky = (other, None) if self.config.any_view else (None, other)
        return Prediction(pose_enc=encoding, depth=depth, depth_conf=confidence, sky=sky)

    def camera_tokens(
        self, extrinsics: Tensor, intrinsics: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """What stands for known cameras among the tokens, `[B, S, C]`. Raises ValueError without a
        camera encoder."""
        if self.cam_enc is None:
            raise ValueError("cameras were given, but this network has no camera encoder")
        with torch.autocast(extrinsics.device.type, enabled=False):
            # in the precision that they came in: cameras may be far from the origin
            encoding = cameras_to_encoding(normalised(extrinsics), intrinsics, size)
            return self.cam_enc(encoding.float())

    def _seen_by_rays(self, rays: Tensor, confidence: Tensor, size: tuple[int, int]) -> Tensor:
        """Encodings `[B, S, 9]` of the cameras that ray maps `[B, S, h, w, 6]` tell."""
        found = cameras_from_rays(rays.flatten(0, 1), confidence.flatten(0, 1), size)
        return cameras_to_encoding(*found, size).unflatten(0, rays.shape[:2])

    def as_read(self, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The parts of a layer as the dense head reads them: the last one normalised, the other
        not."""
        *others, current = (part.float() for part in parts)
        return (*others, self.backbone.norm(current))
