"""The dense head: depth, with confidence and perhaps rays, or with sky (Depth Anything 3, section
3)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from model.families.depth_anything_3.backbone import SPECIAL_TOKENS
from model.families.depth_anything_3.config import DepthAnything3Config
from model.network.dpt_head import Conv2d, DPTHead
from model.network.position_maps import add_view_position_

_HIDDEN = 32  # channels before the last convolution
_AUX = "_aux"  # what the names of the rays' own fusion chain end in
_FINEST = "3"  # of the rays' output convolutions; those of coarser levels never matter


class DenseHead(DPTHead):
    """From the tokens of four layers to maps of every frame, frames independent of each other.

    For any-view networks depth `[B, S, H, W, 1]` and confidence `[B, S, H, W]`, and with the rays
    head rays `[B, S, h, w, 6]` (direction, origin) and their confidence `[B, S, h, w]` at 8/14 of
    the image's size; for those of single pictures depth and sky `[B, S, H, W]`, "sky" where it is
    large. Unlike VGGT's, the residual units carry their raw input.
    """

    def __init__(self, config: DepthAnything3Config) -> None:
        super().__init__(
            config.layer_width,
            config.patch_size,
            SPECIAL_TOKENS,
            config.dense_head,
            norm=config.any_view,
            raw_skip=True,
        )
        width = config.features
        self._sky = not config.any_view
        self._rays = "rays" in config.heads
        if self._sky:
            self.scratch.sky_output_conv2 = nn.Sequential(
                Conv2d(width // 2, _HIDDEN, 3, padding=1), nn.ReLU(), Conv2d(_HIDDEN, 1, 1)
            )
        if self._rays:
            self.scratch.add_chain(width, raw_skip=True, suffix=_AUX)
            widths = [width, width // 2] * 3
            self.scratch.output_conv1_aux = nn.ModuleDict(
                {_FINEST: nn.Sequential(*(Conv2d(n, m, 3, padding=1) for n, m in pairwise(widths)))}
            )
            # keys are places in the public list, in which layers without weights stand between
            layers = {
                "0": Conv2d(width // 2, _HIDDEN, 3, padding=1),
                "2": nn.LayerNorm(_HIDDEN),
                "5": Conv2d(_HIDDEN, 7, 1),
            }
            self.scratch.output_conv2_aux = nn.ModuleDict({_FINEST: nn.ModuleDict(layers)})

    def _answers(self, kept: Sequence[Tensor], image_size: tuple[int, int]) -> tuple[Tensor, ...]:
        levels = self._at_widths(kept)
        fused = self._at_full_size(self.scratch.fuse(levels), image_size)
        raw = self._last_convolution(fused)
        depth = raw[:, 0].exp()[..., None]
        if self._sky:
            return depth, F.relu(self._sky_map(fused))
        found = (depth, 1 + raw[:, 1].exp())
        return (*found, *self._ray_maps(levels, image_size)) if self._rays else found

    def _sky_map(self, fused: Tensor) -> Tensor:
        first, last = (self.scratch.get_submodule(f"sky_output_conv2.{place}") for place in "02")
        return last(F.relu(first(fused)).float())[:, 0]

    def _ray_maps(
        self, levels: Sequence[Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        height, width = image_size
        convolutions = self.scratch.get_submodule(f"output_conv1_aux.{_FINEST}")
        fused = convolutions(self.scratch.through_chain(levels, _AUX))
        fused = add_view_position_(fused, width / height)
        first, norm, last = (
            self.scratch.get_submodule(f"output_conv2_aux.{_FINEST}.{place}") for place in "025"
        )
        hidden = norm(first(fused).movedim(1, -1).float()).movedim(-1, 1)
        raw = last(F.relu(hidden)).movedim(1, -1)
        return raw[..., :6], 1 + raw[..., 6].exp()
