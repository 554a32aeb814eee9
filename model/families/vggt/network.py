"""The network: aggregator and heads, with the public checkpoint's tensor names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from model.families.vggt.aggregator import Aggregator, patch_tokens
from model.families.vggt.config import VGGTConfig
from model.network.camera_head import CameraHead
from model.network.dpt_head import DPTHead
from model.network.network import Kind, Network, Stage, checked_frames
from model.network.prediction import Prediction
from model.network.track_head import TrackHead
from model.network.vision_transformer import VisionTransformer


class VGGT(Network):
    """Visual Geometry Grounded Transformer (Wang et al., 2025)."""

    config: VGGTConfig

    def __init__(self, config: VGGTConfig | None = None) -> None:
        super().__init__()
        self.config = config = VGGTConfig() if config is None else config
        dim = 2 * config.embed_dim
        self.aggregator = Aggregator(config)
        start = self.aggregator.patch_start
        self.camera_head = (
            None if config.camera_head is None else CameraHead(dim, config.camera_head)
        )
        self.point_head = (
            None
            if config.point_head is None
            else DPTHead(dim, config.patch_size, start, config.point_head)
        )
        self.depth_head = (
            None
            if config.depth_head is None
            else DPTHead(dim, config.patch_size, start, config.depth_head)
        )
        self.track_head = (
            None
            if config.track_head is None
            else TrackHead(dim, config.patch_size, start, config.track_head)
        )

    def blocks(self) -> tuple[Stage, ...]:
        """Those of the image encoder, then of the aggregator: "local" within a frame, "global" over
        the scene."""
        encoder = self.aggregator.patch_embed
        count = len(encoder.blocks) if isinstance(encoder, VisionTransformer) else 0
        kinds: dict[str, Kind] = {"frame": "local", "global": "global"}
        return (
            *(Stage(f"aggregator.patch_embed.blocks.{i}", "local") for i in range(count)),
            *(
                Stage(f"aggregator.{name}_blocks.{i}", kinds[name])
                for name, i in self.aggregator.schedule
            ),
        )

    def heads(self, with_tracks: bool = False) -> list[nn.Module]:
        """Camera, depth and point head, and with query points the track head."""
        tracker = self.track_head if with_tracks else None
        return [
            head
            for head in (self.camera_head, self.depth_head, self.point_head, tracker)
            if head is not None
        ]

    def describe_at(self) -> tuple[nn.Module, Callable[[Any], Tensor]]:
        """The image encoder, which sees every frame by itself."""
        return self.aggregator.patch_embed, patch_tokens

    def dense(self) -> list[DPTHead]:
        """Depth and point head."""
        return [head for head in (self.depth_head, self.point_head) if head is not None]

    def forward(
        self,
        images: Tensor,
        query_points: Tensor | None = None,
        attention_keys: int | None = None,
    ) -> Prediction:
        """Predicts cameras, depth, points and, for `query_points`, tracks.

        `images` `[B, S, 3, H, W]` or `[S, 3, H, W]` (then B = 1) in [0, 1], H and W multiples of
        the patch size. `query_points` `[B, N, 2]` or `[N, 2]`: pixels (x, y) of frame 0.
        `attention_keys`: see `Network.forward`. Camera and dense heads run in float32, whatever the
        caller's autocast says; the tracker runs in what it says, as in the public code. Raises
        ValueError for any other shape.
        """
        images, query_points = self._checked(images, query_points)
        size = (images.shape[-2], images.shape[-1])
        with_tracks = query_points is not None
        last = self.config.depth - 1
        levels = {
            name: head.begin(size)
            for name, head in (
                ("depth", self.depth_head),
                ("point", self.point_head),
                ("track", self.track_head if with_tracks else None),
            )
            if head is not None
        }
        camera_tokens: Tensor | None = None
        for layer, *halves in self.aggregator.layers(
            images, self._layers(with_tracks), attention_keys
        ):
            with torch.autocast(images.device.type, enabled=False):
                for taken in levels.values():
                    taken.take(layer, *halves)
            if layer == last:
                camera_tokens = torch.cat([half[:, :, 0] for half in halves], dim=-1)
            del halves  # or they would be held through the next block

        pose_enc = depth = depth_conf = points = points_conf = None
        with torch.autocast(images.device.type, enabled=False):
            if self.camera_head is not None:
                assert camera_tokens is not None
                pose_enc = self.camera_head(camera_tokens.float())[-1]
            if self.depth_head is not None:
                depth, depth_conf = self.depth_head(levels["depth"], size)
            if self.point_head is not None:
                points, points_conf = self.point_head(levels["point"], size)
        track = vis = conf = None
        if query_points is not None:
            assert self.track_head is not None
            tracks = self.track_head(levels["track"], size, query_points)
            track, vis, conf = tracks.coords[-1], tracks.visibility, tracks.confidence
        return Prediction(pose_enc, depth, depth_conf, points, points_conf, track, vis, conf)

    def _layers(self, with_tracks: bool) -> set[int]:
        heads = [self.depth_head, self.point_head, self.track_head if with_tracks else None]
        layers = {layer for head in heads if head is not None for layer in head.layers}
        return layers | ({self.config.depth - 1} if self.camera_head is not None else set())

    def _checked(self, images: Tensor, query_points: Tensor | None) -> tuple[Tensor, Tensor | None]:
        images = checked_frames(images, self.config.patch_size)
        if query_points is None:
            return images, None
        if self.track_head is None:
            raise ValueError(
                "query_points were given, but this network was built without its track head"
            )
        if query_points.dim() == 2:
            query_points = query_points[None]
        if (
            query_points.dim() != 3
            or query_points.shape[-1] != 2
            or query_points.shape[0] != images.shape[0]
            or not query_points.shape[1]
        ):
            raise ValueError(
                f"query_points have shape {tuple(query_points.shape)}; expected "
                f"[{images.shape[0]}, N, 2] or [N, 2] of one point or more"
            )
        return images, query_points.float()
