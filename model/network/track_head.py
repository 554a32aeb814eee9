"""Point tracker of VGGT: follows query points of frame 0 through all frames (section 3.3;
CoTracker-style updates).

Coordinates are (x, y) pixels. "Feature pixels" are image pixels divided by the stride.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.config import DPTHeadConfig, TrackHeadConfig
from model.network.dpt_head import DenseLevels, DPTHead
from model.network.position_maps import sincos
from model.network.transformer import MLP

# 64 MiB; a thousand points in 32 frames of 518 pixels a side would take 8 GiB
_SIMILARITIES_AT_ONCE = 2**24


def _input_dim(config: TrackHeadConfig) -> int:
    """Flow code (features), scaled flow twice (4), correlation (features), track feature
    (features)."""
    return 3 * config.features + 4


def sample_bilinear(features: Tensor, coords: Tensor, padding_mode: str = "border") -> Tensor:
    """Values `[N, K, C]` of maps `[N, C, H, W]` at pixel positions `coords` `[N, K, 2]` (x, y);
    corners are pixels."""
    height, width = features.shape[-2:]
    size = coords.new_tensor((max(width - 1, 1), max(height - 1, 1)))
    grid = coords * (2 / size) - 1
    sampled = F.grid_sample(features, grid[:, None], align_corners=True, padding_mode=padding_mode)
    return sampled[:, :, 0].transpose(1, 2)


def embed_flow(flow: Tensor, channels: int) -> Tensor:
    """Interleaved sines and cosines of a displacement `[..., 2]`: x then y, `[..., 2 *
    channels]`."""
    frequencies = torch.arange(0, channels, 2, device=flow.device, dtype=torch.float32) * (
        1000.0 / channels
    )
    angles = flow[..., None] * frequencies  # [..., 2, channels / 2]
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-3)


def position_code(
    height: int, width: int, channels: int, device: torch.device | None = None
) -> Tensor:
    """Sine code `[1, channels, height, width]` of the integer grid: first half of the channels from
    x, then y."""
    half = channels // 2
    x = sincos(torch.arange(width, device=device), half, 10000.0)[None].expand(height, -1, -1)
    y = sincos(torch.arange(height, device=device), half, 10000.0)[:, None].expand(-1, width, -1)
    return torch.cat((x, y), dim=-1).permute(2, 0, 1)[None]


class CorrelationPyramid:
    """Similarity of track features to a window around each track, at several resolutions of the
    feature maps."""

    def __init__(self, maps: Tensor, levels: int, radius: int) -> None:
        """`maps` `[B, S, C, H, W]`; each level halves the last one by 2x2 averaging."""
        smallest = min(maps.shape[-2:]) >> (levels - 1)
        if smallest < 1:
            raise ValueError(
                f"feature maps of {maps.shape[-2]}x{maps.shape[-1]} are too small for {levels} "
                "correlation levels; "
                f"use pictures of at least {2**levels} pixels a side at stride 2"
            )
        self.leading = maps.shape[:2]
        self.radius = radius
        self.levels = [maps.flatten(0, 1)]
        for _ in range(levels - 1):
            self.levels.append(F.avg_pool2d(self.levels[-1], 2))
        offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
        # the slow index of the window moves x, the fast one y
        self.window = torch.stack(torch.meshgrid(offsets, offsets, indexing="ij"), dim=-1).view(
            1, 1, -1, 2
        )

    def sample(self, features: Tensor, coords: Tensor) -> Tensor:
        """Correlations `[B, S, N, levels * (2r + 1)^2]` of track features `[B, S, N, C]` at
        `coords` `[B, S, N, 2]`."""
        tracks, centres = features.flatten(0, 1), coords.flatten(0, 1)
        sampled = []
        for level, maps in enumerate(self.levels):
            step = max(1, _SIMILARITIES_AT_ONCE // maps[:, 0].numel())
            parts = zip(tracks.split(step, dim=1), centres.split(step, dim=1), strict=True)
            values = torch.cat([self._sample_level(level, *part) for part in parts], dim=1)
            sampled.append(values.view(*self.leading, tracks.shape[1], -1))
        return torch.cat(sampled, dim=-1)

    def _sample_level(self, level: int, tracks: Tensor, centres: Tensor) -> Tensor:
        """`[BS, N, (2r + 1)^2]` of one level."""
        maps = self.levels[level]
        height, width = maps.shape[-2:]
        similarity = tracks @ maps.flatten(2) / math.sqrt(maps.shape[1])  # [BS, N, H * W]
        window = (centres[:, :, None] / 2**level + self.window).flatten(0, 1)  # [BS * N, K, 2]
        values = sample_bilinear(
            similarity.view(-1, 1, height, width), window, padding_mode="zeros"
        )
        return values.view(*tracks.shape[:2], -1)


class TrackSelfAttention(nn.Module):
    """Self-attention whose skip connection starts from the *normalised* input, then an ordinary
    pre-norm MLP."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.mlp = MLP(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = y + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class TrackCrossAttention(nn.Module):
    """Cross-attention with the same skip connection from the normalised input."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.norm_context = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.cross_attn = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.mlp = MLP(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        y, c = self.norm1(x), self.norm_context(context)
        x = y + self.cross_attn(y, c, c, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class UpdateTransformer(nn.Module):
    """Attention over time for every track and, through a few virtual tracks, across tracks within a
    frame."""

    def __init__(self, config: TrackHeadConfig) -> None:
        super().__init__()
        dim, heads = config.hidden_size, config.num_heads
        self.input_norm = nn.LayerNorm(_input_dim(config))
        self.input_transform = nn.Linear(_input_dim(config), dim)
        self.output_norm = nn.LayerNorm(dim)
        self.flow_head = nn.Linear(dim, config.features + 2)
        # the spelling is the public checkpoint's
        self.virual_tracks = nn.Parameter(torch.randn(1, config.num_virtual_tracks, 1, dim))
        self.time_blocks = nn.ModuleList(
            TrackSelfAttention(dim, heads) for _ in range(config.depth)
        )
        self.space_virtual_blocks = nn.ModuleList(
            TrackSelfAttention(dim, heads) for _ in range(config.depth)
        )
        self.space_point2virtual_blocks = nn.ModuleList(
            TrackCrossAttention(dim, heads) for _ in range(config.depth)
        )
        self.space_virtual2point_blocks = nn.ModuleList(
            TrackCrossAttention(dim, heads) for _ in range(config.depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Updates `[B, N, S, 2 + features]` from per-track inputs `[B, N, S, input]`."""
        batch, points, frames, _ = x.shape
        initial = self.input_transform(self.input_norm(x))
        tokens = torch.cat((initial, self.virual_tracks.expand(batch, -1, frames, -1)), dim=1)
        rounds = zip(
            self.time_blocks,
            self.space_virtual2point_blocks,
            self.space_virtual_blocks,
            self.space_point2virtual_blocks,
            strict=True,
        )
        for over_time, gather, among_virtual, scatter in rounds:
            tokens = over_time(tokens.flatten(0, 1)).unflatten(0, (batch, -1))
            by_frame = tokens.transpose(1, 2).flatten(0, 1)  # [B * S, N + V, C]
            tracks, virtual = by_frame[:, :points], by_frame[:, points:]
            virtual = among_virtual(gather(virtual, tracks))
            tracks = scatter(tracks, virtual)
            tokens = (
                torch.cat((tracks, virtual), dim=1).unflatten(0, (batch, frames)).transpose(1, 2)
            )
        return self.flow_head(self.output_norm(tokens[:, :points] + initial))


@dataclass(frozen=True)
class Tracks:
    """Tracks of N points: positions per iteration `[B, S, N, 2]` pixels; visibility and confidence
    `[B, S, N]`."""

    coords: list[Tensor]
    visibility: Tensor
    confidence: Tensor | None


class Tracker(nn.Module):
    """Iterative refinement of positions and features of all tracks."""

    def __init__(self, config: TrackHeadConfig) -> None:
        super().__init__()
        self.config = config
        features = config.features
        window = (2 * config.corr_radius + 1) ** 2
        self.corr_mlp = MLP(config.corr_levels * window, config.hidden_size, features)
        self.query_ref_token = nn.Parameter(torch.randn(1, 2, _input_dim(config)))
        self.updateformer = UpdateTransformer(config)
        self.fmap_norm = nn.LayerNorm(features)
        self.ffeat_norm = nn.GroupNorm(1, features)
        self.ffeat_updater = nn.Sequential(nn.Linear(features, features), nn.GELU())
        self.vis_predictor = nn.Sequential(nn.Linear(features, 1))
        self.conf_predictor = nn.Sequential(nn.Linear(features, 1)) if config.predict_conf else None

    def forward(self, query_points: Tensor, maps: Tensor, iters: int) -> Tracks:
        """Tracks `query_points` `[B, N, 2]` (pixels of frame 0) through feature maps `[B, S, C, h,
        w]`."""
        stride = self.config.stride
        frames = maps.shape[1]
        maps = self.fmap_norm(maps.movedim(2, -1)).movedim(-1, 2)
        query = query_points / stride
        coords = query[:, None].expand(-1, frames, -1, -1)
        features = self.query_features(maps, query)[:, None].expand(-1, frames, -1, -1)
        pyramid = CorrelationPyramid(maps, self.config.corr_levels, self.config.corr_radius)
        place = self.place_code(maps, query)

        history = []
        for _ in range(iters):
            inputs = self.update_inputs(coords, features, pyramid, place)
            update = self.updateformer(inputs.transpose(1, 2)).transpose(1, 2)  # [B, S, N, 2 + C]
            normalised = self.ffeat_norm(update[..., 2:].flatten(0, 2)).view_as(features)
            features = features + self.ffeat_updater(normalised)
            coords = coords + update[..., :2]
            # frame 0 is where the query is
            coords = torch.cat((query[:, None], coords[:, 1:]), dim=1)
            history.append(coords * stride)
        visibility = self.vis_predictor(features)[..., 0].sigmoid()
        confidence = (
            None if self.conf_predictor is None else self.conf_predictor(features)[..., 0].sigmoid()
        )
        return Tracks(history, visibility, confidence)

    def query_features(self, maps: Tensor, query: Tensor) -> Tensor:
        """Features `[B, N, C]` of frame 0 at `query` `[B, N, 2]` feature pixels."""
        return sample_bilinear(maps[:, 0], query)

    def update_inputs(
        self, coords: Tensor, features: Tensor, pyramid: CorrelationPyramid, place: Tensor
    ) -> Tensor:
        """What the update transformer sees, `[B, S, N, flow + correlation + feature]`."""
        correlation = self.corr_mlp(pyramid.sample(features, coords))
        flow = coords - coords[:, :1]
        scaled = flow / self.config.max_scale
        code = embed_flow(flow, self.config.features // 2)
        inputs = torch.cat((code, scaled, scaled, correlation, features), dim=-1)
        frames = coords.shape[1]
        role = torch.cat(
            (self.query_ref_token[:, :1], self.query_ref_token[:, 1:].expand(-1, frames - 1, -1)),
            dim=1,
        )
        return inputs + place[:, None] + role[:, :, None]

    def place_code(self, maps: Tensor, query: Tensor) -> Tensor:
        code = position_code(
            maps.shape[-2], maps.shape[-1], _input_dim(self.config), maps.device
        ).to(maps.dtype)
        return sample_bilinear(code.expand(maps.shape[0], -1, -1, -1), query)


class TrackHead(nn.Module):
    """Feature extractor (a DPT head) and tracker."""

    def __init__(
        self, dim: int, patch_size: int, patch_start: int, config: TrackHeadConfig
    ) -> None:
        super().__init__()
        self.config = config
        self.feature_extractor = DPTHead(
            dim,
            patch_size,
            patch_start,
            DPTHeadConfig(
                features=config.features,
                out_channels=config.out_channels,
                intermediate_layer_idx=config.intermediate_layer_idx,
                pos_embed=config.pos_embed,
                feature_only=True,
                down_ratio=config.stride,
            ),
        )
        self.tracker = Tracker(config)

    @property
    def layers(self) -> tuple[int, ...]:
        """The aggregator layers it reads."""
        return self.config.intermediate_layer_idx

    def begin(self, image_size: tuple[int, int]) -> DenseLevels:
        """What takes the tokens of a pass layer by layer, for images of (height, width)."""
        return self.feature_extractor.begin(image_size)

    def forward(
        self,
        tokens: Mapping[int, Tensor] | DenseLevels,
        image_size: tuple[int, int],
        query_points: Tensor,
        iters: int | None = None,
    ) -> Tracks:
        """Tracks `query_points` `[B, N, 2]` given tokens `[B, S, P, 2C]` of the layers in `layers`,
        or what `begin` has taken of them."""
        maps = self.feature_extractor.features(tokens, image_size)
        result: Tracks = self.tracker(
            query_points, maps, self.config.iters if iters is None else iters
        )
        return result
