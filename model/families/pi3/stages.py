"""pi3 stage by stage: encoder, alternating decoder, the blocks of the heads' transformers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.families.family import Kept, Stages
from model.families.pi3.network import Pi3
from model.network.network import Stage
from model.network.rope import Rotation

_DEEP_SHARE = 6  # the last sixth of the decoder's pairs of blocks, two pairs at least
_LOCAL, _GLOBAL = "local", "global"


class Pi3Stages(Stages):
    """Every block by itself. All of the heads' transformers read the same tokens, those of the
    decoder's last pair of blocks."""

    def __init__(self, net: Pi3) -> None:
        self._net = net
        config = net.config
        self.row = net.blocks()
        first, last = config.encoder_depth, config.encoder_depth + config.decoder_depth
        self._encoding, self._decoding = self.row[:first], self.row[first:last]
        pairs = config.decoder_depth // 2
        self.deep = self._decoding[config.decoder_depth - 2 * max(2, pairs // _DEEP_SHARE) :]
        self._ropes: dict[tuple[int, ...], Rotation] = {}

    def shared(self) -> list[str]:
        """Registers, what of the encoder is no block, and the ways into the heads' transformers."""
        blocks = tuple(f"{stage.name}." for stage in self.row)
        names = (name for name, _ in self._net.named_parameters())
        read = ("register_token", "encoder.", *(f"{n}.projects." for n in self._net.decoders))
        return [name for name in names if name.startswith(read) and not name.startswith(blocks)]

    def begin(self, images: Tensor) -> Tensor:
        return self._net.embed(images[None])

    def enter(self, stage: Stage, tokens: Tensor, images: Tensor, kept: Kept) -> Tensor:
        if stage in self._encoding:
            return tokens
        if stage == self._decoding[0]:
            return self._net.with_registers(self._net.encoder.finish(tokens).patch_tokens)
        if stage in self._decoding:
            groups = 1 if stage.kind == "global" else len(images)
            return tokens.reshape(groups, -1, tokens.shape[-1])
        decoder, _, index = stage.name.split(".")
        if index != "0":
            return tokens
        return self._net.get_submodule(decoder).get_submodule("projects")(self.features(kept))

    def run(self, stage: Stage, module: nn.Module, tokens: Tensor, images: Tensor) -> Tensor:
        if stage in self._encoding:
            return module(tokens)
        config, size = self._net.config, (images.shape[-2], images.shape[-1])
        decoding = stage in self._decoding
        width, heads = (
            (config.embed_dim, config.decoder_heads)
            if decoding
            else (config.head_dim, config.head_heads)
        )
        key = (*size, width // heads)
        if key not in self._ropes:
            self._ropes[key] = self._net.rope(size, width // heads, tokens.new_empty(0).float())
        return module(tokens, self._ropes[key])

    def leave(self, stage: Stage, tokens: Tensor, images: Tensor, kept: Kept) -> None:
        if stage in self._decoding:
            name = _GLOBAL if stage.kind == "global" else _LOCAL
            kept[name] = tokens.reshape(len(images), -1, tokens.shape[-1])

    def features(self, kept: Kept) -> Tensor:
        return torch.cat((kept[_LOCAL], kept[_GLOBAL]), dim=-1)
