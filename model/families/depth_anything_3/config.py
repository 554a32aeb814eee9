"""The shape of a Depth Anything 3 network; every object is frozen and strict."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from model.families.depth_anything_3.reference_view import STRATEGIES
from model.network.config import DPTHeadConfig, read_config

HEADS = ("camera", "depth", "rays")
KINDS = ("any-view", "mono", "metric")


@dataclass(frozen=True)
class DepthAnything3Config:
    """A whole network. Raises ValueError for what cannot be built.

    `kind` "any-view" predicts cameras and depth of any number of pictures; "mono" and "metric" know
    depth and sky of single pictures, the latter in metres for a known focal length. `alt_start` is
    the first block of those that attend within frames and over the scene in turn; None where no
    block does. `heads` are those that are present, of `HEADS`; the camera encoder, which takes
    known cameras, comes and goes with the camera head.
    """

    family: ClassVar[str] = "depth_anything_3"

    kind: str
    embed_dim: int
    depth: int
    num_heads: int
    out_layers: tuple[int, int, int, int]
    features: int
    out_channels: tuple[int, int, int, int]
    alt_start: int | None = None
    gated: bool = False
    img_size: int = 518
    patch_size: int = 14
    mlp_ratio: float = 4.0
    init_values: float = 1.0
    rope_freq: float = 100.0
    reference_view: str = "saddle_balanced"
    camera_encoder_heads: int = 16
    heads: tuple[str, ...] = ("camera", "depth")

    def __post_init__(self) -> None:
        for name in ("out_layers", "out_channels", "heads"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; expected one of {', '.join(KINDS)}")
        if self.any_view != (self.alt_start is not None):
            raise ValueError(
                f"kind is {self.kind!r} and alt_start is {self.alt_start}: networks for any number "
                "of views need an alt_start, and no others have one"
            )
        if self.alt_start is not None and not 1 <= self.alt_start < self.depth:
            raise ValueError(
                f"alt_start is {self.alt_start}; expected a block from 1 to {self.depth - 1}"
            )
        if self.reference_view not in STRATEGIES:
            raise ValueError(
                f"reference_view is {self.reference_view!r}; expected one of "
                f"{', '.join(STRATEGIES)}"
            )
        possible = HEADS if self.any_view else ("depth",)
        if not set(self.heads) <= set(possible) or (
            "rays" in self.heads and "depth" not in self.heads
        ):
            raise ValueError(
                f"heads are {', '.join(self.heads)}; a network of kind {self.kind!r} may have "
                f"{', '.join(possible)}, and rays only with depth"
            )
        if self.embed_dim % (4 * self.num_heads):
            raise ValueError(
                f"embed_dim {self.embed_dim} is not a multiple of 4 x {self.num_heads} heads"
            )
        if not all(0 <= layer < self.depth for layer in self.out_layers):
            raise ValueError(
                f"the head reads layers {self.out_layers} of a network of depth {self.depth}"
            )

    @property
    def any_view(self) -> bool:
        """Whether it takes several pictures of a scene; else one by one, without cameras."""
        return self.kind == "any-view"

    @property
    def first_scene_block(self) -> int:
        """From which block on they attend within frames and over the scene in turn."""
        return self.depth if self.alt_start is None else self.alt_start

    @property
    def layer_width(self) -> int:
        """Channels of a layer as the heads read it: of the last local and of the current block."""
        return 2 * self.embed_dim if self.any_view else self.embed_dim

    @property
    def dense_head(self) -> DPTHeadConfig:
        """The dense head as a DPT."""
        return DPTHeadConfig(
            output_dim=2 if self.any_view else 1,
            features=self.features,
            out_channels=self.out_channels,
            intermediate_layer_idx=self.out_layers,
            pos_embed=self.any_view,
        )

    def with_heads(self, heads: Sequence[str]) -> DepthAnything3Config:
        """The same network with only `heads` kept, or with "rays", which every checkpoint for any
        number of views holds. Raises ValueError for a head that it does not have."""
        possible = (*self.heads, *(("rays",) if self.any_view else ()))
        for name in heads:
            if name not in possible:
                raise ValueError(
                    f"head {name!r} was asked for; this network has {', '.join(possible) or 'none'}"
                )
        return dataclasses.replace(self, heads=tuple(h for h in HEADS if h in heads))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DepthAnything3Config:
        """Builds a configuration from plain data. Raises ValueError naming any key that is
        unknown."""
        result = read_config(cls, data, "network")
        assert isinstance(result, cls)
        return result
