"""Dense prediction head (Ranftl et al., "Vision Transformers for Dense Prediction", 2021) as VGGT
uses it, and what its relatives do differently."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import computes_bfloat16
from model.network import winograd
from model.network.activations import activate_dense
from model.network.config import DPTHeadConfig
from model.network.position_maps import add_view_position_

ARITHMETIC = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# of float32 feature maps at the highest resolution, which is where a head's memory goes
CHUNK_BYTES = 2**28
_GPU_CHUNK_BYTES = 2**32  # small convolutions leave most of a GPU idle
_GPU_SHARE = 32  # of its memory, at most a chunk's
_ENLARGED = (0, 1)  # the finer levels, whose `resize_layers` make them larger


def chunk_bytes(device: torch.device) -> int:
    """`CHUNK_BYTES`, on a GPU as much more as its memory allows."""
    if device.type != "cuda":
        return CHUNK_BYTES
    share = torch.cuda.get_device_properties(device).total_memory // _GPU_SHARE
    return max(CHUNK_BYTES, min(_GPU_CHUNK_BYTES, share))


class Conv2d(nn.Conv2d):
    """A convolution in the precision of its input, whatever its parameters are stored in.

    On a CPU a 1x1 convolution runs as a matrix product: what torch takes for a convolution, and
    with it the last bits of the result, depends on whether it has one thread or more. Where
    `may_round`, a large one in float32 takes fewer products there, for somewhat more rounding
    (`model/network/winograd.py`).
    """

    may_round = False

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype)
        if self.kernel_size == (1, 1) and x.device.type == "cpu":
            return F.linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)
        if self.may_round and self._has_fewer_products(x):
            return winograd.convolve(x, weight, bias)
        return self._conv_forward(x, weight, bias)

    def _has_fewer_products(self, x: Tensor) -> bool:
        shape = (self.kernel_size, self.stride, self.padding)
        return shape == ((3, 3), (1, 1), (1, 1)) and winograd.pays(x, self.out_channels)


class ConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution without padding, likewise."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.conv_transpose2d(x, self.weight.to(x.dtype), bias, self.stride)


def _resize(features: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(features, size=size, mode="bilinear", align_corners=True)


def _collected(parts: Iterable[tuple[Tensor, ...]], frames: tuple[int, ...]) -> list[Tensor]:
    """Tensors `[B, S, ...]` from what is made of some of the B x S `frames` at a time, written
    where it stays."""
    whole: list[Tensor] = []
    first = 0
    for made in parts:
        if not whole:
            count = math.prod(frames)
            whole = [tensor.new_empty(count, *tensor.shape[1:]) for tensor in made]
        last = first + len(made[0])
        for tensor, target in zip(made, whole, strict=True):
            target[first:last] = tensor
        first = last
    return [tensor.unflatten(0, frames) for tensor in whole]


class ResidualConvUnit(nn.Module):
    """Two 3x3 convolutions. The skip connection carries the *rectified* input, as the public
    weights of VGGT were trained, or with `raw_skip` the input as it comes."""

    def __init__(self, features: int, raw_skip: bool = False) -> None:
        super().__init__()
        self.raw_skip = raw_skip
        self.conv1 = Conv2d(features, features, 3, padding=1)
        self.conv2 = Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        rectified = F.relu(x)
        carried = x if self.raw_skip else rectified
        return self.conv2(F.relu(self.conv1(rectified), inplace=True)).add_(carried)


class FusionBlock(nn.Module):
    """Adds a finer level to the running map, refines, mixes channels, resizes to `size`.

    The public network mixes channels last; both are linear and the weights of a resize sum to one,
    so mixing the small map gives the same for a quarter of the work.
    """

    def __init__(self, features: int, has_skip: bool = True, raw_skip: bool = False) -> None:
        super().__init__()
        if has_skip:
            self.resConfUnit1 = ResidualConvUnit(features, raw_skip)
        self.resConfUnit2 = ResidualConvUnit(features, raw_skip)
        self.out_conv = Conv2d(features, features, 1)

    def forward(self, x: Tensor, skip: Tensor | None, size: tuple[int, int]) -> Tensor:
        if skip is not None:
            x = self.resConfUnit1(skip).add_(x)
        return _resize(self.out_conv(self.resConfUnit2(x)), size)


class Scratch(nn.Module):
    """The decoder: four levels brought to one width, fused from coarse to fine, then the output
    convolutions."""

    def __init__(self, config: DPTHeadConfig, raw_skip: bool = False) -> None:
        super().__init__()
        width = config.features
        for level, channels in enumerate(config.out_channels, start=1):
            setattr(self, f"layer{level}_rn", Conv2d(channels, width, 3, padding=1, bias=False))
        self.add_chain(width, raw_skip)
        if config.feature_only:
            self.output_conv1 = Conv2d(width, width, 3, padding=1)
        else:
            self.output_conv1 = Conv2d(width, width // 2, 3, padding=1)
            self.output_conv2 = nn.Sequential(
                Conv2d(width // 2, 32, 3, padding=1), nn.ReLU(), Conv2d(32, config.output_dim, 1)
            )

    def add_chain(self, features: int, raw_skip: bool, suffix: str = "") -> None:
        """Makes a chain of fusion blocks, `refinenet1` to `refinenet4` with a `suffix`."""
        for level in (1, 2, 3, 4):
            block = FusionBlock(features, has_skip=level < 4, raw_skip=raw_skip)
            setattr(self, f"refinenet{level}{suffix}", block)

    def fuse(self, levels: Sequence[Tensor]) -> Tensor:
        """One map at twice the finest level's size from four maps of `features` channels, fine to
        coarse."""
        return self.output_conv1(self.through_chain(levels))

    def through_chain(self, levels: Sequence[Tensor], suffix: str = "") -> Tensor:
        """What the chain with this `suffix` makes of the levels, before any output convolution."""
        fine_to_coarse = range(len(levels), 0, -1)
        chain = [getattr(self, f"refinenet{level}{suffix}") for level in fine_to_coarse]
        sizes = [level.shape[-2:] for level in levels[-2::-1]]
        sizes.append(torch.Size(2 * side for side in levels[0].shape[-2:]))
        x = chain[0](levels[-1], None, sizes[0])
        for block, level, size in zip(chain[1:], levels[-2::-1], sizes[1:], strict=True):
            x = block(x, level, size)
        return x


class DPTHead(nn.Module):
    """From tokens of four layers to one value and one confidence per pixel; frames are independent
    of each other.

    `arithmetic` is what the convolutions may run in, a key of `ARITHMETIC`: where bfloat16 is
    slower than float32 they run in float32 all the same, with fewer products. Parameters and
    results are float32 in any case.
    """

    def __init__(
        self,
        dim: int,
        patch_size: int,
        patch_start: int,
        config: DPTHeadConfig,
        *,
        norm: bool = True,
        raw_skip: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.patch_size = patch_size
        self.patch_start = patch_start
        c0, c1, _, c3 = config.out_channels
        self.norm: nn.Module = nn.LayerNorm(dim) if norm else nn.Identity()
        self.projects = nn.ModuleList(Conv2d(dim, channels, 1) for channels in config.out_channels)
        self.resize_layers = nn.ModuleList(
            (
                ConvTranspose2d(c0, c0, 4, stride=4),
                ConvTranspose2d(c1, c1, 2, stride=2),
                nn.Identity(),
                Conv2d(c3, c3, 3, stride=2, padding=1),
            )
        )
        self.scratch = Scratch(config, raw_skip)
        self.arithmetic = "float32"

    @property
    def arithmetic(self) -> str:
        """What the convolutions may run in."""
        return self._arithmetic

    @arithmetic.setter
    def arithmetic(self, name: str) -> None:
        self._arithmetic = name
        for module in self.modules():
            if isinstance(module, Conv2d):
                module.may_round = name != "float32"

    @property
    def layers(self) -> tuple[int, ...]:
        """The aggregator layers it reads."""
        return self.config.intermediate_layer_idx

    def dtype(self, device: torch.device) -> torch.dtype:
        """What the convolutions compute in on `device`."""
        return ARITHMETIC[self.arithmetic] if computes_bfloat16(device) else torch.float32

    def begin(
        self, image_size: tuple[int, int], frames_chunk_size: int | None = None
    ) -> DenseLevels:
        """What takes the tokens of a pass layer by layer, for images of (height, width).

        At most `frames_chunk_size` frames go through the convolutions at a time, by default as many
        as fit `chunk_bytes`.
        """
        return DenseLevels(self, image_size, frames_chunk_size)

    def features(
        self, tokens: Mapping[int, Tensor] | DenseLevels, image_size: tuple[int, int]
    ) -> Tensor:
        """Feature maps `[B, S, features, H / down_ratio, W / down_ratio]` (for a head with
        `feature_only`)."""
        levels = self._levels(tokens, image_size, None)
        parts = ((self._decode(part, image_size).float(),) for part in levels.parts())
        (maps,) = _collected(parts, levels.frames)
        return maps

    def forward(
        self,
        tokens: Mapping[int, Tensor] | DenseLevels,
        image_size: tuple[int, int],
        frames_chunk_size: int | None = None,
    ) -> tuple[Tensor, ...]:
        """Values `[B, S, H, W, output_dim - 1]` and confidence `[B, S, H, W]`.

        `tokens[layer]` is `[B, S, P, 2C]`, or what `begin` has taken of them, which is used up.
        """
        levels = self._levels(tokens, image_size, frames_chunk_size)
        parts = (self._answers(part, image_size) for part in levels.parts())
        return tuple(_collected(parts, levels.frames))

    def _answers(self, kept: Sequence[Tensor], image_size: tuple[int, int]) -> tuple[Tensor, ...]:
        """What `forward` gives, for some of the frames: `[n, H, W, ...]` each."""
        raw = self._last_convolution(self._decode(kept, image_size))
        return activate_dense(raw, self.config.activation, self.config.conf_activation)

    def _levels(
        self,
        tokens: Mapping[int, Tensor] | DenseLevels,
        image_size: tuple[int, int],
        frames_chunk_size: int | None,
    ) -> DenseLevels:
        if isinstance(tokens, DenseLevels):
            return tokens
        levels = self.begin(image_size, frames_chunk_size)
        for layer in self.layers:
            levels.take(layer, tokens[layer])
        return levels

    def level(self, index: int, patches: Tensor, image_size: tuple[int, int]) -> Tensor:
        """What is kept of a level's patch tokens `[n, h * w, 2C]` until all four are there.

        That is as far as the way to the fusion makes them smaller: the two finer levels, which are
        enlarged next, are projected, `[n, channels, h, w]`; the two coarser ones have the decoder's
        width already.
        """
        height, width = image_size
        grid = (height // self.patch_size, width // self.patch_size)
        # a map in channels-last layout is a matrix of tokens: no copy stands between the two
        patches = self.norm(patches).to(self.dtype(patches.device))
        level = self.projects[index](patches.unflatten(1, grid).permute(0, 3, 1, 2))
        if self.config.pos_embed:
            level = add_view_position_(level, width / height)
        return level if index in _ENLARGED else self._at_width(index, level)

    def _at_width(self, index: int, level: Tensor) -> Tensor:
        resized = self.resize_layers[index](level)
        at_width: Tensor = getattr(self.scratch, f"layer{index + 1}_rn")(resized)
        return at_width

    def _last_convolution(self, features: Tensor) -> Tensor:
        """The output convolutions; the last one, whose result is exponentiated, in float32."""
        first, relu, last = self.scratch.output_conv2
        return last(relu(first(features)).float())

    def _at_widths(self, kept: Sequence[Tensor]) -> list[Tensor]:
        return [
            self._at_width(index, level) if index in _ENLARGED else level
            for index, level in enumerate(kept)
        ]

    def _decode(self, kept: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        return self._at_full_size(self.scratch.fuse(self._at_widths(kept)), image_size)

    def _at_full_size(self, fused: Tensor, image_size: tuple[int, int]) -> Tensor:
        height, width = image_size
        ratio, patch = self.config.down_ratio, self.patch_size
        size = (int(height // patch * patch / ratio), int(width // patch * patch / ratio))
        fused = _resize(fused, size)
        return add_view_position_(fused, width / height) if self.config.pos_embed else fused


class DenseLevels:
    """What a dense head keeps of the frames of one pass: four levels of each, a few frames at a
    time.

    A level is made smaller as soon as its layer is there (`DPTHead.level`), so that no layer's
    tokens are held for the heads.
    """

    def __init__(
        self, head: DPTHead, image_size: tuple[int, int], frames_chunk_size: int | None
    ) -> None:
        if frames_chunk_size is None:
            height, width = image_size
            map_bytes = height * width * head.config.features // 2 * torch.float32.itemsize
            device = next(head.parameters()).device
            frames_chunk_size = max(1, chunk_bytes(device) // map_bytes)
        if frames_chunk_size < 1:
            raise ValueError(f"frames_chunk_size is {frames_chunk_size}; expected at least 1")
        self.image_size = image_size
        self.frames: tuple[int, ...] = ()
        self._head = head
        self._frames_at_once = frames_chunk_size
        self._kept: dict[int, list[Tensor]] = {}

    def take(self, layer: int, *tokens: Tensor) -> None:
        """Reads a layer, if it is one of the head's: tokens `[B, S, P, C]` whose channels, one
        after the other, are the 2C of the layer."""
        wanted = [index for index, read in enumerate(self._head.layers) if read == layer]
        if not wanted:
            return
        self.frames = tuple(tokens[0].shape[:2])
        parts = [part.flatten(0, 1).split(self._frames_at_once) for part in tokens]
        for index in wanted:
            self._kept[index] = [
                self._head.level(
                    index,
                    torch.cat([part[:, self._head.patch_start :] for part in some], dim=-1),
                    self.image_size,
                )
                for some in zip(*parts, strict=True)
            ]

    def parts(self) -> Iterator[list[Tensor]]:
        """The four levels, finest first, of some of the B x S frames at a time; what was given is
        not held any longer."""
        levels = [self._kept.pop(index) for index in range(len(self._head.layers))]
        while levels[0]:
            yield [level.pop(0) for level in levels]
