"""The shapes of building blocks. Field names follow the public constructors; every object is frozen
and strict."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

Config = TypeVar("Config", bound="NetworkConfig")


class NetworkConfig(Protocol):
    """What the shape of any network tells; everything else about it is its family's business."""

    family: ClassVar[str]
    """Name of the family that builds it, as in an artifact's manifest."""

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the heads that are present."""

    def with_heads(self: Config, heads: Sequence[str]) -> Config:
        """The same network with only `heads` kept. Raises ValueError for a head that it does not
        have."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` is the inverse."""

    @classmethod
    def from_dict(cls: type[Config], data: Mapping[str, Any]) -> Config:
        """Builds a configuration from plain data. Raises ValueError naming any key that is
        unknown."""


@dataclass(frozen=True)
class VisionTransformerConfig:
    """DINOv2-style image encoder with register tokens. `img_size` is the native size of its
    position table."""

    img_size: int = 518
    patch_size: int = 14
    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    mlp_ratio: float = 4.0
    num_register_tokens: int = 4
    interpolate_antialias: bool = True
    interpolate_offset: float = 0.0
    init_values: float = 1.0


@dataclass(frozen=True)
class CameraHeadConfig:
    """Iterative pose regressor; its width is twice the aggregator's."""

    trunk_depth: int = 4
    num_heads: int = 16
    mlp_ratio: float = 4.0
    init_values: float = 0.01
    num_iterations: int = 4


@dataclass(frozen=True)
class DPTHeadConfig:
    """Dense prediction head (Ranftl et al., "Vision Transformers for Dense Prediction", 2021)."""

    output_dim: int = 2
    activation: str = "exp"
    conf_activation: str = "expp1"
    features: int = 256
    out_channels: tuple[int, int, int, int] = (256, 512, 1024, 1024)
    intermediate_layer_idx: tuple[int, int, int, int] = (4, 11, 17, 23)
    pos_embed: bool = True
    feature_only: bool = False
    down_ratio: int = 1


@dataclass(frozen=True)
class TrackHeadConfig:
    """Point tracker. `pos_embed` belongs to its feature extractor: False is what facebook/VGGT-1B
    was trained with."""

    features: int = 128
    iters: int = 4
    predict_conf: bool = True
    stride: int = 2
    corr_levels: int = 7
    corr_radius: int = 4
    hidden_size: int = 384
    pos_embed: bool = False
    out_channels: tuple[int, int, int, int] = (256, 512, 1024, 1024)
    intermediate_layer_idx: tuple[int, int, int, int] = (4, 11, 17, 23)
    depth: int = 6
    num_heads: int = 8
    num_virtual_tracks: int = 64
    max_scale: int = 518

    @property
    def least_side(self) -> int:
        """Pixels that the shorter side of an image needs, so that the smallest correlation map is
        not empty."""
        return self.stride * 2 ** (self.corr_levels - 1)


def read_config(cls: type, data: Any, where: str) -> Any:
    """An object of the dataclass `cls` from plain data.

    Raises ValueError naming `where` and any key that is unknown.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{where} configuration is {type(data).__name__}; expected a mapping")
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(
            f"unknown {where} configuration: {', '.join(unknown)}; known: "
            f"{', '.join(sorted(known))}"
        )
    return cls(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    )
