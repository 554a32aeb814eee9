"""Depth Anything 3 stage by stage: the blocks, then cameras from their tokens, then tokens from
cameras."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.families.depth_anything_3.cameras import (
    cameras_to_encoding,
    encoding_to_cameras,
    normalised,
)
from model.families.depth_anything_3.network import DepthAnything3
from model.families.family import Kept, Stages
from model.network.network import Kind, Stage
from model.network.rope import Rotation

_DECODER, _ENCODER = Stage("cam_dec", "head"), Stage("cam_enc", "head")
_DEEP_SHARE = 6  # the last sixth of the blocks, two at least
_LOCAL, _CURRENT = "local", "current"


class DepthAnything3Stages(Stages):
    """The blocks of a network one by one, then its camera decoder and its camera encoder.

    The encoder gets no part in a pass without known cameras. It is shown those that the decoder
    predicts, as known ones would be.
    """

    def __init__(self, net: DepthAnything3) -> None:
        self._net = net
        self._blocks = net.blocks()
        self._ropes: dict[tuple[int, ...], dict[Kind, Rotation]] = {}
        cameras = () if net.cam_dec is None else (_DECODER, _ENCODER)
        self.row = (*self._blocks, *cameras)
        depth = net.config.depth
        self.deep = self._blocks[depth - max(2, depth // _DEEP_SHARE) :]

    def shared(self) -> list[str]:
        """What of the backbone is no block."""
        blocks = tuple(f"{stage.name}." for stage in self.row)
        names = (name for name, _ in self._net.backbone.named_parameters(prefix="backbone"))
        return [name for name in names if not name.startswith(blocks)]

    def begin(self, images: Tensor) -> Tensor:
        return self._net.backbone.embed(images[None])

    def enter(self, stage: Stage, tokens: Tensor, images: Tensor, kept: Kept) -> Tensor:
        backbone, frames = self._net.backbone, len(images)
        if stage in self._blocks:
            return backbone.enter(self._blocks.index(stage), tokens, 1, frames, kept)
        if stage == _DECODER:
            return backbone.leave(self.features(kept)[None], 1, frames, kept)[:, :, 0]
        size = (images.shape[-2], images.shape[-1])
        extrinsics, intrinsics = encoding_to_cameras(tokens, size)
        last = extrinsics.new_tensor([0, 0, 0, 1]).expand(*extrinsics.shape[:-2], 1, 4)
        square = torch.cat((extrinsics, last), dim=-2)
        return cameras_to_encoding(normalised(square), intrinsics, size)

    def run(self, stage: Stage, module: nn.Module, tokens: Tensor, images: Tensor) -> Tensor:
        if stage not in self._blocks:
            return module(tokens)
        backbone, key = self._net.backbone, (images.shape[0], *images.shape[-2:])
        if key not in self._ropes:
            self._ropes[key] = backbone.ropes(images[None].to(tokens.device), torch.float32)
        return module(tokens, *backbone.attends(self._blocks.index(stage), self._ropes[key]))

    def leave(self, stage: Stage, tokens: Tensor, images: Tensor, kept: Kept) -> None:
        if stage in self._blocks:
            kept[_CURRENT] = tokens.view(len(images), -1, tokens.shape[-1])
            if stage.kind == "local":
                kept[_LOCAL] = kept[_CURRENT]

    def features(self, kept: Kept) -> Tensor:
        """Views with the reference first, where one was chosen."""
        if not self._net.config.any_view:
            return kept[_CURRENT]
        return torch.cat((kept[_LOCAL], kept[_CURRENT]), dim=-1)
