"""The shape of a pi3 or Pi3X network; every object is frozen and strict."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from model.network.config import VisionTransformerConfig, read_config

HEADS = ("camera", "depth", "metric")


@dataclass(frozen=True)
class ConvHeadConfig:
    """A head of convolutions that doubles the patch grid, once a width of `widths`, before it
    reaches the pixels."""

    widths: tuple[int, ...] = (256, 128, 64)
    residual_units: int = 2
    last_width: int = 32


@dataclass(frozen=True)
class Pi3Config:
    """A whole network. Raises ValueError for what cannot be built.

    With `conv_head` it is a Pi3X, whose dense heads are convolutions and which can have a metric
    head; without it is a pi3. `heads` are those that are present, of `HEADS`.
    """

    family: ClassVar[str] = "pi3"

    img_size: int = 518
    patch_size: int = 14
    embed_dim: int = 1024
    encoder_depth: int = 24
    encoder_heads: int = 16
    decoder_depth: int = 36
    decoder_heads: int = 16
    mlp_ratio: float = 4.0
    init_values: float = 0.01
    rope_freq: float = 100.0
    head_dim: int = 1024
    head_depth: int = 5
    head_heads: int = 16
    camera_dim: int = 512
    conv_head: ConvHeadConfig | None = None
    metric_dim: int = 512
    metric_heads: int = 8
    heads: tuple[str, ...] = ("camera", "depth")

    def __post_init__(self) -> None:
        if isinstance(self.conv_head, Mapping):
            head = read_config(ConvHeadConfig, self.conv_head, "conv_head")
            object.__setattr__(self, "conv_head", head)
        object.__setattr__(self, "heads", tuple(self.heads))
        possible = HEADS if self.conv_head is not None else HEADS[:2]
        if not set(self.heads) <= set(possible):
            raise ValueError(
                f"heads are {', '.join(self.heads)}; this network may have {', '.join(possible)}"
            )
        if self.decoder_depth < 2 or self.decoder_depth % 2:
            raise ValueError(
                f"decoder_depth is {self.decoder_depth}; expected an even number of blocks, local "
                "and global ones in turn"
            )
        widths = {
            "embed_dim": (self.embed_dim, self.decoder_heads),
            "head_dim": (self.head_dim, self.head_heads),
            "metric_dim": (self.metric_dim, self.metric_heads),
        }
        for name, (width, heads) in widths.items():
            if width % (4 * heads):
                raise ValueError(f"{name} {width} is not a multiple of 4 x {heads} heads")

    @property
    def encoder(self) -> VisionTransformerConfig:
        """The image encoder."""
        return VisionTransformerConfig(
            self.img_size,
            self.patch_size,
            self.embed_dim,
            self.encoder_depth,
            self.encoder_heads,
            self.mlp_ratio,
        )

    def with_heads(self, heads: Sequence[str]) -> Pi3Config:
        """The same network with only `heads` kept. Raises ValueError for a head that it does not
        have."""
        for name in heads:
            if name not in self.heads:
                raise ValueError(
                    f"head {name!r} was asked for; this network has "
                    f"{', '.join(self.heads) or 'none'}"
                )
        return dataclasses.replace(self, heads=tuple(h for h in HEADS if h in heads))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Pi3Config:
        """Builds a configuration from plain data. Raises ValueError naming any key that is
        unknown."""
        result = read_config(cls, data, "network")
        assert isinstance(result, cls)
        return result


PRESETS: dict[str, Pi3Config] = {
    "pi3": Pi3Config(),
    "pi3x": Pi3Config(conv_head=ConvHeadConfig(), heads=HEADS),
}
"""The public checkpoints."""
