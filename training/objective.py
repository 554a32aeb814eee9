"""The training objective: a VGGT, the auxiliary heads that only training needs, and the sum of
their losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import VGGT
from model.families.vggt.cameras import cameras_to_pose_encoding, pose_encoding_to_cameras
from model.network.attention import Attention
from model.network.vision_transformer import VisionTransformer
from model.scene.geometry import unproject_depth
from scenes.scene import SceneBatch
from training.correspondence import PatchPoints, patch_matches, patch_points
from training.losses import (
    attention_matching_loss,
    camera_loss,
    confident_error,
    gradient_error,
    masked_mean,
    matching_loss,
    relative_pose_loss,
)


@dataclass(frozen=True)
class LossWeights:
    """Weight of each term in the total."""

    camera: float = 2.0
    relative_pose: float = 0.5
    depth: float = 1.0  # dense, confidence-weighted
    point: float = 0.5  # dense, confidence-weighted
    depth_gradient: float = 0.5  # part of the depth term
    patch_point: float = 1.0
    patch_depth: float = 1.0
    matching: float = 0.2
    attention: float = 0.3


class AuxiliaryHeads(nn.Module):
    """Linear read-outs of the last patch tokens: world point, log depth, and a descriptor for
    matching."""

    def __init__(self, dim: int, descriptor: int = 64) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.point = nn.Linear(dim, 3)
        self.log_depth = nn.Linear(dim, 1)
        self.descriptor = nn.Linear(dim, descriptor)
        self.log_temperature = nn.Parameter(torch.tensor(2.3))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """World points `[..., 3]`, log depths `[...]`, and unit descriptors scaled as queries and
        plain as keys."""
        tokens = self.norm(tokens)
        descriptor = F.normalize(self.descriptor(tokens), dim=-1)
        scale = self.log_temperature.clamp(max=4.0).exp()
        return (
            self.point(tokens),
            self.log_depth(tokens).squeeze(-1),
            scale * descriptor,
            descriptor,
        )


class Objective(nn.Module):
    """Computes all loss terms of a batch of normalised scenes."""

    def __init__(
        self,
        net: VGGT,
        weights: LossWeights,
        *,
        attention_block: int = 1,
        attention_heads: int = 2,
        mixed_precision: bool = False,
    ) -> None:
        """With `mixed_precision` the blocks run under autocast to bfloat16; heads and losses stay
        in float32."""
        super().__init__()
        if net.camera_head is None or net.depth_head is None or net.point_head is None:
            raise ValueError(
                f"training needs camera, depth and point heads; this network has {net.config.heads}"
            )
        self.net = net
        self.auxiliary = AuxiliaryHeads(2 * net.config.embed_dim)
        self.weights = weights
        self.attention_heads = attention_heads
        self.mixed_precision = mixed_precision
        self._attention_input: tuple[Any, ...] = ()
        self._attention_block = attention_block
        self._taught_attention().register_forward_pre_hook(
            self._keep_attention_input, with_kwargs=True
        )
        self._last = net.config.depth - 1
        self._layers = sorted({*net.depth_head.layers, *net.point_head.layers, self._last})

    def forward(
        self,
        batch: SceneBatch,
        dense_frames: Tensor,
        attention_weight: float,
        matching_weight: float = 1.0,
        teach_auxiliary_only: bool = False,
    ) -> dict[str, Tensor]:
        """Loss terms by name, unweighted, with their weighted sum as "total" and two detached
        measures.

        The dense heads run on `dense_frames` only: indices into the B * S frames of the batch.
        `attention_weight` and `matching_weight` multiply the weights of attention matching (at 0 it
        is not computed) and patch matching. With `teach_auxiliary_only` the auxiliary heads' losses
        stay in these heads: while they are still random they would teach a trained network
        nonsense.
        """
        weights, net = self.weights, self.net
        patch = net.config.patch_size
        frames, (height, width) = batch.images.shape[1], batch.images.shape[-2:]
        teach_attention = weights.attention * attention_weight > 0
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=self.mixed_precision):
            tokens = net.aggregator(batch.images, self._layers)
        tokens = {layer: value.float() for layer, value in tokens.items()}
        attention_input, self._attention_input = self._attention_input, ()

        assert net.camera_head is not None
        terms: dict[str, Tensor] = {}
        encoding = cameras_to_pose_encoding(batch.extrinsics, batch.intrinsics, (height, width))
        last = tokens[self._last]
        encodings = net.camera_head(last[:, :, 0])
        terms["camera"] = camera_loss(encodings, encoding)
        predicted, _ = pose_encoding_to_cameras(encodings[-1], (height, width))
        terms["relative_pose"] = relative_pose_loss(predicted, batch.extrinsics)
        terms.update(self._dense_terms(tokens, batch, dense_frames))

        points = patch_points(batch, patch)
        patches = last[:, :, net.aggregator.patch_start :]
        world, log_depth, queries, keys = self.auxiliary(
            patches.detach() if teach_auxiliary_only else patches
        )
        terms["patch_point"] = masked_mean((world - points.world).abs().mean(-1), points.valid)
        terms["patch_depth"] = masked_mean(
            (log_depth - points.depth.clamp(min=1e-4).log()).abs(), points.valid
        )
        terms["matching"] = self._matching_term(points, batch, queries, keys)
        total = (
            weights.camera * terms["camera"]
            + weights.relative_pose * terms["relative_pose"]
            + weights.depth * terms["depth"]
            + weights.depth * weights.depth_gradient * terms["depth_gradient"]
            + weights.point * terms["point"]
            + weights.patch_point * terms["patch_point"]
            + weights.patch_depth * terms["patch_depth"]
            + weights.matching * matching_weight * terms["matching"]
        )
        if teach_attention:
            q, k, _ = self._taught_attention().heads(*attention_input)
            others = torch.arange(1, frames, device=q.device)
            matches = patch_matches(points, batch, others, torch.zeros_like(others), patch)
            terms["attention"], terms["attention_accuracy"] = attention_matching_loss(
                q[:, : self.attention_heads],
                k[:, : self.attention_heads],
                frames,
                net.aggregator.patch_start,
                matches.index,
                matches.visible,
            )
            total = total + weights.attention * attention_weight * terms["attention"]
        terms["total"] = total
        return terms

    def _dense_terms(
        self, tokens: dict[int, Tensor], batch: SceneBatch, dense_frames: Tensor
    ) -> dict[str, Tensor]:
        depth_head, point_head = self.net.depth_head, self.net.point_head
        assert depth_head is not None
        assert point_head is not None
        size = (batch.images.shape[-2], batch.images.shape[-1])
        chosen = {layer: value.flatten(0, 1)[dense_frames][None] for layer, value in tokens.items()}
        true_depth = batch.depth.flatten(0, 1)[dense_frames][None]
        valid = true_depth > 0
        depth, depth_confidence = depth_head(chosen, size)
        depth = depth.squeeze(-1)
        point, point_confidence = point_head(chosen, size)
        extrinsics, intrinsics = (
            x.flatten(0, 1)[dense_frames][None] for x in (batch.extrinsics, batch.intrinsics)
        )
        true_point = unproject_depth(true_depth, extrinsics, intrinsics)
        return {
            "depth": confident_error((depth - true_depth).abs(), depth_confidence, valid),
            "depth_gradient": gradient_error(depth, true_depth, valid),
            "point": confident_error((point - true_point).abs().mean(-1), point_confidence, valid),
        }

    def _matching_term(
        self, points: PatchPoints, batch: SceneBatch, queries: Tensor, keys: Tensor
    ) -> Tensor:
        sources = torch.arange(queries.shape[1], device=queries.device)
        targets = sources.roll(-1)
        matches = patch_matches(points, batch, sources, targets, self.net.config.patch_size)
        return matching_loss(queries, keys[:, targets], matches.index, matches.visible)

    def compile_blocks(self, backend: str) -> None:
        """Compiles the blocks of one kind for each shape that they meet; the taught block cannot
        be, for its hook.

        Blocks of the global attention meet more shapes than they would repay.
        """
        torch._dynamo.config.recompile_limit = 64
        aggregator = self.net.aggregator
        encoder = aggregator.patch_embed
        blocks = [
            *aggregator.frame_blocks,
            *(encoder.blocks if isinstance(encoder, VisionTransformer) else ()),
        ]
        for block in blocks:
            block.compile(backend=backend, dynamic=False)

    def _taught_attention(self) -> Attention:
        return cast(Attention, self.net.aggregator.global_blocks[self._attention_block].attn)

    def _keep_attention_input(
        self, _module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        self._attention_input = (*inputs, named.get("norm"))
