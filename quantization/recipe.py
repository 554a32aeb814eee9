"""What is quantised, and how: one frozen object, stored in the artifact's manifest."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from kernels import SCHEMES

FLOAT = "float"
_BLOCK_LINEARS = r"blocks\.\d+\.(attn\.(qkv|proj)|mlp\.(fc1|fc2))"
_PARTS = {
    "aggregator": re.compile(rf"aggregator\.(frame|global)_{_BLOCK_LINEARS}"),
    "image_encoder": re.compile(rf"aggregator\.patch_embed\.{_BLOCK_LINEARS}"),
    "camera_head": re.compile(r"camera_head\.trunk\.\d+\.(attn\.(qkv|proj)|mlp\.(fc1|fc2))"),
}


@dataclass(frozen=True)
class Recipe:
    """Scheme of the linear layers in each part of the network: "w4a4", "w4a8", "w8a8", or "float" to leave it.

    The paper quantises the aggregator's blocks only; the image encoder and the camera head hold another 40 % of the
    parameters. Everything else (norms, convolutions, the dense heads, the tracker) stays in float.
    """

    aggregator: str = "w4a4"
    image_encoder: str = "w4a8"
    camera_head: str = "w8a8"
    rotate: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for part in _PARTS:
            if getattr(self, part) not in (*SCHEMES, FLOAT):
                known = ", ".join((*SCHEMES, FLOAT))
                raise ValueError(f"scheme of {part} is {getattr(self, part)!r}; expected one of {known}")
        if all(getattr(self, part) == FLOAT for part in _PARTS):
            raise ValueError("this recipe quantises nothing; give at least one part a scheme")

    def scheme(self, layer: str) -> str:
        """Scheme of the layer with this module name."""
        for part, pattern in _PARTS.items():
            if pattern.fullmatch(layer):
                chosen: str = getattr(self, part)
                return chosen
        return FLOAT

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the manifest."""
        return dataclasses.asdict(self)
