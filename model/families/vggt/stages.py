"""VGGT stage by stage: image encoder, alternating attention, camera head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.families.family import Kept, Stages
from model.families.vggt.aggregator import Aggregator, patch_tokens
from model.families.vggt.network import VGGT
from model.network.network import Stage
from model.network.rope import Rotation
from model.network.vision_transformer import VisionTransformer

_CAMERA = Stage("camera_head", "head")
_DEEP_SHARE = 6  # the last sixth of the pairs of blocks, two at least


class VGGTStages(Stages):
    """The blocks of a VGGT one by one, then its camera head as a whole.

    The head's blocks run several times over, on one token a frame: the two halves of its camera
    token, from the last block of each kind.
    """

    def __init__(self, net: VGGT) -> None:
        self._net = net
        config = net.config
        blocks = net.blocks()
        encoder = net.aggregator.patch_embed
        self._encoder = encoder if isinstance(encoder, VisionTransformer) else None
        count = 0 if self._encoder is None else len(self._encoder.blocks)
        self._encoding, alternating = set(blocks[:count]), blocks[count:]
        self._first = alternating[0]
        self._ropes: dict[tuple[int, ...], Rotation] = {}
        self.row = (*blocks, _CAMERA) if net.camera_head is not None else blocks
        first_deep = config.depth - max(2, config.depth // _DEEP_SHARE)
        schedule = net.aggregator.schedule
        self.deep = tuple(
            s for s, (_, i) in zip(alternating, schedule, strict=True) if i >= first_deep
        )

    @property
    def _aggregator(self) -> Aggregator:
        return self._net.aggregator

    def shared(self) -> list[str]:
        """What of the aggregator is no block."""
        blocks = tuple(f"{stage.name}." for stage in self.row)
        names = (name for name, _ in self._aggregator.named_parameters(prefix="aggregator"))
        return [name for name in names if not name.startswith(blocks)]

    def begin(self, images: Tensor) -> Tensor:
        batch = images[None]
        if self._encoder is None:
            return self._aggregator.embed(batch)
        return self._encoder.embed(self._aggregator.normalise(batch))

    def enter(self, stage: Stage, tokens: Tensor, images: Tensor, kept: Kept) -> Tensor:
        if stage in self._encoding:
            return tokens
        if stage == _CAMERA:
            return self.features(kept)[None, :, 0]
        if stage == self._first and self._encoder is not None:
            patches = patch_tokens(self._encoder.finish(tokens))
            tokens = self._aggregator.with_special_tokens(patches, 1, len(images))
        return self._aggregator.arrange(tokens, _kind(stage), 1, len(images))

    def run(self, stage: Stage, module: nn.Module, tokens: Tensor, images: Tensor) -> Tensor:
        if stage in self._encoding:
            return module(tokens)
        if stage == _CAMERA:
            return torch.stack(module(tokens))
        size = tuple(images.shape[-2:])
        if size not in self._ropes:
            self._ropes[size] = self._aggregator.rope(images[None].to(tokens.device), torch.float32)
        return module(tokens, self._ropes[size])

    def leave(self, stage: Stage, tokens: Tensor, images: Tensor, kept: Kept) -> None:
        if stage not in self._encoding and stage != _CAMERA:
            kept[_kind(stage)] = tokens.view(len(images), -1, tokens.shape[-1])

    def features(self, kept: Kept) -> Tensor:
        return torch.cat((kept["frame"], kept["global"]), dim=-1)


def _kind(stage: Stage) -> str:
    """What the aggregator calls it."""
    return "frame" if stage.kind == "local" else "global"
