"""What the rest of the project may ask of a network, whatever its family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from model.network.attention import ATTENTION, Attention
from model.network.config import NetworkConfig
from model.network.dpt_head import ARITHMETIC as DENSE_HEADS
from model.network.dpt_head import DPTHead
from model.network.prediction import Prediction

Kind = Literal["local", "global", "head"]


@dataclass(frozen=True)
class Stage:
    """A module of a network, by name, and what its tokens are.

    "local": those of one frame, class and register tokens included; "global": those of all frames
    of a scene at once; "head": tokens of a head's own, none of them a patch of a frame.
    """

    name: str
    kind: Kind


class Network(nn.Module, ABC):
    """A feed-forward network from the frames of a scene to its geometry."""

    config: NetworkConfig

    @abstractmethod
    def forward(
        self,
        images: Tensor,
        query_points: Tensor | None = None,
        attention_keys: int | None = None,
    ) -> Prediction:
        """Predicts from frames `[B, S, 3, H, W]` or `[S, 3, H, W]` (then B = 1) in [0, 1].

        `query_points` `[B, N, 2]` or `[N, 2]`: pixels (x, y) of frame 0, for a network with a track
        head. `attention_keys`: of how many tokens attention over the scene may look at, about; None
        is all of them, and exact. `model.network.keys` says which it leaves out first. Images may
        be of any floating-point type. Raises ValueError for any other type or shape.
        """

    @abstractmethod
    def blocks(self) -> tuple[Stage, ...]:
        """The transformer blocks that work on frames, image encoder first, in the order they
        run."""

    @abstractmethod
    def heads(self, with_tracks: bool = False) -> Sequence[nn.Module]:
        """The heads that run in a pass, the track head only in one that has query points."""

    @abstractmethod
    def describe_at(self) -> tuple[nn.Module, Callable[[Any], Tensor]]:
        """What tells the looks of a frame: a module, and how its output gives `[B * S, h * w, C]`.

        These are the patch tokens of every frame, row-major.
        """

    @abstractmethod
    def dense(self) -> Sequence[DPTHead]:
        """The heads with one value a pixel, those that `dense_heads` speaks of."""

    @property
    def attention(self) -> str:
        """Arithmetic of attention in all `blocks`: "float" (default) or "int8"."""
        return next(module.arithmetic for module in self._attentions())

    @attention.setter
    def attention(self, arithmetic: str) -> None:
        if arithmetic not in ATTENTION:
            raise ValueError(f"attention is {arithmetic!r}; expected one of {', '.join(ATTENTION)}")
        for module in self._attentions():
            module.arithmetic = arithmetic

    @property
    def dense_heads(self) -> str:
        """Arithmetic of the dense heads' convolutions: "float32" (default) or "bfloat16"."""
        return next((head.arithmetic for head in self.dense()), "float32")

    @dense_heads.setter
    def dense_heads(self, arithmetic: str) -> None:
        if arithmetic not in DENSE_HEADS:
            raise ValueError(
                f"dense_heads is {arithmetic!r}; expected one of {', '.join(DENSE_HEADS)}"
            )
        for head in self.dense():
            head.arithmetic = arithmetic

    def _attentions(self) -> Iterator[Attention]:
        for stage in self.blocks():
            for module in self.get_submodule(stage.name).modules():
                if isinstance(module, Attention):
                    yield module


def checked_frames(images: Tensor, patch_size: int) -> Tensor:
    """Frames as float32 `[B, S, 3, H, W]`; see `Network.forward`. Raises ValueError."""
    if not images.is_floating_point():
        raise ValueError(
            f"images are {images.dtype}; expected floating-point numbers from 0 to 1: divide 8-bit "
            "pixels by 255"
        )
    if images.dim() == 4:
        images = images[None]
    if images.dim() != 5 or images.shape[2] != 3 or 0 in images.shape:
        raise ValueError(
            f"images have shape {tuple(images.shape)}; expected [B, S, 3, H, W] or [S, 3, H, W]"
        )
    if images.shape[-2] % patch_size or images.shape[-1] % patch_size:
        raise ValueError(
            f"images are {images.shape[-2]}x{images.shape[-1]} pixels; both sides must be "
            f"multiples of {patch_size}"
        )
    return images.float()
