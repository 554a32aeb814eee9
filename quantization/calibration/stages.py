"""The network as a row of stages, so that no more than one of them need be in memory in float.

A stage is a transformer block of the image encoder or the aggregator, or the camera head as a whole (its blocks run
several times over, on one token a frame). Between stages a sample is one tensor of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model import VGGTConfig
from model.files.checkpoint import assign, build_empty
from model.network.rope import Rotation
from model.network.transformer import Attention
from model.network.vision_transformer import VisionTransformer
from quantization.recipe import part_of

Read = Callable[[str], Tensor]
"""A tensor of the float checkpoint by name."""
ENCODER, CAMERA = "encoder", "camera"


@dataclass(frozen=True)
class Stage:
    """`name` is the module's in the network, `kind` one of encoder, frame, global, camera."""

    name: str
    kind: str


class Walk:
    """A network that is filled from a checkpoint stage by stage, and how its stages are run on samples.

    `images`: one `[S, 3, H, W]` in [0, 1] a sample.
    """

    def __init__(
        self, config: VGGTConfig, read: Read, images: Sequence[Tensor], device: str | torch.device = "cpu"
    ) -> None:
        self.net = build_empty(config)
        self.images = images
        self.device = torch.device(device)
        self._read = read
        self._ropes: dict[tuple[int, ...], dict[str, Rotation]] = {}
        aggregator = self.net.aggregator
        self.encoder = aggregator.patch_embed if isinstance(aggregator.patch_embed, VisionTransformer) else None
        self.stages: list[Stage] = []
        if self.encoder is not None:
            blocks = len(self.encoder.blocks)
            self.stages += [Stage(f"aggregator.patch_embed.blocks.{i}", ENCODER) for i in range(blocks)]
        self.stages += [Stage(f"aggregator.{kind}_blocks.{i}", kind) for kind, i in aggregator.schedule]
        if self.net.camera_head is not None:
            self.stages.append(Stage("camera_head", CAMERA))
        # what is left besides the stages and the heads
        stages = tuple(f"{stage.name}." for stage in self.stages)
        self.fill([name for name, _ in aggregator.named_parameters(prefix="aggregator") if not name.startswith(stages)])

    def fill(self, names: Sequence[str]) -> None:
        """Reads these parameters of the network, float32."""
        for name in names:
            assign(self.net, name, self._read(name), self.device)

    def fill_stage(self, stage: Stage) -> nn.Module:
        """Reads all parameters of a stage and returns its module."""
        module = self.net.get_submodule(stage.name)
        self.fill([name for name, _ in module.named_parameters(prefix=stage.name)])
        return module

    def linears(self, stage: Stage) -> list[str]:
        """Names, within the stage, of the layers that can be quantised, in the order in which they run."""
        module = self.net.get_submodule(stage.name)
        return [name for name, _ in module.named_modules() if part_of(f"{stage.name}.{name}") is not None]

    def run(self, stage: Stage, module: nn.Module, tokens: Tensor, sample: int, attention: str = "float") -> Tensor:
        """`module`, which stands for that of `stage`, on one sample. The camera head's attention is always float."""
        for part in module.modules() if stage.kind != CAMERA else ():
            if isinstance(part, Attention):
                part.arithmetic = attention
        if stage.kind == ENCODER:
            return module(tokens)
        if stage.kind == CAMERA:
            return torch.stack(module(tokens))
        images = self.images[sample]
        key = (images.shape[0], *images.shape[-2:])
        if key not in self._ropes:
            self._ropes[key] = self.net.aggregator.ropes(images[None].to(self.device), torch.float32)
        return module(tokens, self._ropes[key][stage.kind])


class Stream:
    """The tokens of all samples, carried through one version of the network: the float one or the quantised one.

    `attention` is the arithmetic of that version's.
    """

    @torch.no_grad()
    def __init__(self, walk: Walk, attention: str = "float") -> None:
        self.walk = walk
        self.attention = attention
        aggregator, encoder = walk.net.aggregator, walk.encoder
        self.tokens: list[Tensor] = []
        for images in walk.images:
            batch = images[None].to(walk.device)
            self.tokens.append(
                aggregator.embed(batch) if encoder is None else encoder.embed(aggregator.normalise(batch))
            )
        self._in_encoder = encoder is not None
        self._camera_tokens: dict[str, list[Tensor]] = {}  # latest of each kind of block, [1, S, C]

    @torch.no_grad()
    def enter(self, stage: Stage) -> None:
        """Brings the tokens into the form that `stage` takes."""
        aggregator = self.walk.net.aggregator
        for i, images in enumerate(self.walk.images):
            if stage.kind == CAMERA:
                halves = [self._camera_tokens[kind][i] for kind in ("frame", "global")]
                self.tokens[i] = torch.cat(halves, dim=-1)
                continue
            if self._in_encoder and stage.kind != ENCODER:
                assert self.walk.encoder is not None
                patches = self.walk.encoder.finish(self.tokens[i]).patch_tokens
                self.tokens[i] = aggregator.with_special_tokens(patches, 1, len(images))
            if stage.kind != ENCODER:
                self.tokens[i] = aggregator.arrange(self.tokens[i], stage.kind, 1, len(images))
        self._in_encoder = self._in_encoder and stage.kind == ENCODER

    @torch.no_grad()
    def advance(self, stage: Stage, module: nn.Module) -> None:
        """Runs `module`, which stands for that of `stage`, on every sample, in place."""
        for i, images in enumerate(self.walk.images):
            self.tokens[i] = self.walk.run(stage, module, self.tokens[i], i, self.attention)
            if stage.kind in ("frame", "global"):
                per_frame = self.tokens[i].view(1, len(images), -1, self.tokens[i].shape[-1])
                self._camera_tokens.setdefault(stage.kind, [per_frame] * len(self.tokens))[i] = per_frame[:, :, 0]
