"""The shape of a VGGT network. Field names follow the public constructor; every object is frozen
and strict."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from model.network.config import (
    CameraHeadConfig,
    DPTHeadConfig,
    TrackHeadConfig,
    VisionTransformerConfig,
    read_config,
)

HEADS = ("camera", "depth", "point", "track")


# The image encoders that the public constructor knows by name: width, depth, heads.
_ENCODERS = {
    "dinov2_vits14_reg": (384, 12, 6),
    "dinov2_vitb14_reg": (768, 12, 12),
    "dinov2_vitl14_reg": (1024, 24, 16),
    "dinov2_vitg2_reg": (1536, 40, 24),
}


@dataclass(frozen=True)
class VGGTConfig:
    """A whole network. A head that is None is not built and its predictions are None.

    `patch_embed` is a public encoder name, "conv" (a plain patch convolution), or "dino_vit" (the
    encoder that `patch_embed_vit` describes). Parts may be given as plain mappings. Raises
    ValueError for what cannot be built.
    """

    family: ClassVar[str] = "vggt"

    img_size: int = 518
    patch_size: int = 14
    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    mlp_ratio: float = 4.0
    num_register_tokens: int = 4
    aa_order: tuple[str, ...] = ("frame", "global")
    aa_block_size: int = 1
    qk_norm: bool = True
    rope_freq: float = 100.0
    init_values: float = 0.01
    patch_embed: str = "dinov2_vitl14_reg"
    patch_embed_vit: VisionTransformerConfig | None = None
    camera_head: CameraHeadConfig | None = CameraHeadConfig()
    depth_head: DPTHeadConfig | None = DPTHeadConfig()
    point_head: DPTHeadConfig | None = DPTHeadConfig(output_dim=4, activation="inv_log")
    track_head: TrackHeadConfig | None = TrackHeadConfig()
    camera_to_world: bool = False
    """What its pose encodings stand for; VGGT's own are world-to-camera."""

    def __post_init__(self) -> None:
        for name, part in _PARTS.items():
            value = getattr(self, name)
            if isinstance(value, Mapping):
                object.__setattr__(self, name, read_config(part, value, name))
        object.__setattr__(self, "aa_order", tuple(self.aa_order))

        if self.patch_embed not in (*_ENCODERS, "conv", "dino_vit"):
            known = ", ".join((*_ENCODERS, "conv", "dino_vit"))
            raise ValueError(f"patch_embed is {self.patch_embed!r}; expected one of {known}")
        if (self.patch_embed == "dino_vit") != (self.patch_embed_vit is not None):
            raise ValueError(
                f"patch_embed is {self.patch_embed!r} and patch_embed_vit is "
                f"{self.patch_embed_vit}: "
                "'dino_vit' needs patch_embed_vit, and nothing else takes it"
            )
        if self.encoder is not None:
            for name in ("embed_dim", "patch_size"):
                if getattr(self.encoder, name) != getattr(self, name):
                    raise ValueError(
                        f"the image encoder's {name} is {getattr(self.encoder, name)}; "
                        f"the aggregator's is {getattr(self, name)}: they must be equal"
                    )
        if sorted(self.aa_order) != ["frame", "global"]:
            raise ValueError(
                f"aa_order is {self.aa_order!r}; expected 'frame' and 'global' in some order"
            )
        if self.aa_block_size < 1 or self.depth % self.aa_block_size:
            raise ValueError(
                f"depth {self.depth} is not a multiple of aa_block_size {self.aa_block_size}"
            )
        if self.rope_freq <= 0:
            raise ValueError(
                f"rope_freq is {self.rope_freq}; it must be positive (rotary positions are "
                "mandatory)"
            )
        if self.embed_dim % (4 * self.num_heads):
            raise ValueError(
                f"embed_dim {self.embed_dim} is not a multiple of 4 x {self.num_heads} heads"
            )
        for name in ("depth_head", "point_head", "track_head"):
            head = getattr(self, name)
            if head is not None and not all(
                0 <= i < self.depth for i in head.intermediate_layer_idx
            ):
                layers = head.intermediate_layer_idx
                raise ValueError(f"{name} reads layers {layers} of a network of depth {self.depth}")

    @property
    def encoder(self) -> VisionTransformerConfig | None:
        """The image encoder; None for a plain patch convolution."""
        if self.patch_embed not in _ENCODERS:
            return self.patch_embed_vit
        width, depth, heads = _ENCODERS[self.patch_embed]
        return VisionTransformerConfig(self.img_size, self.patch_size, width, depth, heads)

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the heads that are present, of `HEADS`."""
        return tuple(name for name in HEADS if getattr(self, f"{name}_head") is not None)

    def with_heads(self, heads: Sequence[str]) -> VGGTConfig:
        """The same network with only `heads` kept. Raises ValueError for a head that it does not
        have."""
        for name in heads:
            if name not in self.heads:
                raise ValueError(
                    f"head {name!r} was asked for; this network has "
                    f"{', '.join(self.heads) or 'none'}"
                )
        left_out: dict[str, Any] = {
            f"{name}_head": None for name in self.heads if name not in heads
        }
        return dataclasses.replace(self, **left_out)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` is the inverse."""
        data = dataclasses.asdict(self)
        if not self.camera_to_world:  # as artifacts were before there was a choice
            del data["camera_to_world"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> VGGTConfig:
        """Builds a configuration from plain data. Raises ValueError naming any key that is
        unknown."""
        result = read_config(cls, data, "network")
        assert isinstance(result, cls)
        return result


_PARTS = {
    "patch_embed_vit": VisionTransformerConfig,
    "camera_head": CameraHeadConfig,
    "depth_head": DPTHeadConfig,
    "point_head": DPTHeadConfig,
    "track_head": TrackHeadConfig,
}
