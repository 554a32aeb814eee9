"""What is quantised, and how: one frozen object, stored in the artifact's manifest, and the recipes with a name."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kernels import FORMATS, NumberFormat
from model.network.dpt_head import ARITHMETIC as DENSE_HEADS
from model.network.transformer import ATTENTION

FLOAT = "float"
_BLOCK_LINEARS = r"blocks\.\d+\.(attn\.(qkv|proj)|mlp\.(fc1|fc2))"
PARTS = {
    "aggregator": re.compile(rf"aggregator\.(frame|global)_{_BLOCK_LINEARS}"),
    "image_encoder": re.compile(rf"aggregator\.patch_embed\.{_BLOCK_LINEARS}"),
    "camera_head": re.compile(r"camera_head\.trunk\.\d+\.(attn\.(qkv|proj)|mlp\.(fc1|fc2))"),
}
ROUNDINGS = ("nearest", "gptq")
SCHEMES = (*FORMATS, FLOAT)  # what a part of the network or a single layer may be given


def find_scheme(name: str) -> NumberFormat | None:
    """The number format with this name, None for "float". Raises ValueError for any other name."""
    if name not in SCHEMES:
        raise ValueError(f"unknown scheme {name!r}; expected one of {', '.join(SCHEMES)}")
    return FORMATS.get(name)


@dataclass(frozen=True)
class Recipe:
    """How the linear layers of each part of the network are quantised.

    `aggregator`, `image_encoder`, `camera_head`: scheme of the part, or "float" to leave it. The paper quantises the
    aggregator's blocks only; the other two hold another 40 % of the parameters. Norms, convolutions, the dense heads
    and the tracker are never computed in integers. `overrides` names single layers and their schemes.
    """

    aggregator: str = "w4a4"
    image_encoder: str = "w4a8"
    camera_head: str = "w4a8"
    overrides: tuple[tuple[str, str], ...] = ()
    rotate: bool = True  # random signs and a Hadamard matrix before quantisation
    smooth: bool = False  # channel scale from the statistics of the transformed input and weight
    alpha: float | None = 0.5  # of smoothing; None searches it layer by layer
    clip_weights: bool = False  # error-minimising clip, row by row
    clip_activations: bool = False  # error-minimising clip, layer by layer
    rounding: str = "nearest"
    fold: bool = False  # LayerNorm, LayerScale and input means into neighbours
    correct: bool = False  # regress weight and bias on the inputs that the layer will see
    learning_epochs: int = 0  # block reconstruction of smoothing and clips
    attention: str = "float"  # or "int8": arithmetic of attention in the aggregator and the image encoder
    dense_heads: str = "float32"  # or "bfloat16": arithmetic of their convolutions
    propagate: str = "quantised"  # inputs of a block while it is quantised: "quantised" or "float"
    seed: int = 0

    def __post_init__(self) -> None:
        for part in PARTS:
            find_scheme(getattr(self, part))
        for _, scheme in self.overrides:
            find_scheme(scheme)
        if all(getattr(self, part) == FLOAT for part in PARTS) and not self.overrides:
            raise ValueError("this recipe quantises nothing; give at least one part a scheme")
        if self.rounding not in ROUNDINGS:
            raise ValueError(f"rounding is {self.rounding!r}; expected one of {', '.join(ROUNDINGS)}")
        for setting, known in (("attention", ATTENTION), ("dense_heads", DENSE_HEADS)):
            if getattr(self, setting) not in known:
                raise ValueError(f"{setting} is {getattr(self, setting)!r}; expected one of {', '.join(known)}")
        if self.propagate not in ("quantised", "float"):
            raise ValueError(f"propagate is {self.propagate!r}; expected quantised or float")
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}; expected a number from 0 to 1")
        if self.learning_epochs < 0:
            raise ValueError(f"learning_epochs is {self.learning_epochs}; expected at least 0")

    @property
    def needs_calibration(self) -> bool:
        """Whether any step looks at activations."""
        looks = (self.smooth, self.clip_activations, self.clip_weights, self.fold, self.correct)
        return any(looks) or self.rounding != "nearest" or self.learning_epochs > 0

    def scheme(self, layer: str) -> NumberFormat | None:
        """Scheme of the layer with this module name; None leaves it in float."""
        part = part_of(layer)
        if part is None:
            return None
        return find_scheme(dict(self.overrides).get(layer, getattr(self, part)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the manifest."""
        plain = dataclasses.asdict(self)
        return {**plain, "overrides": dict(self.overrides)}


def part_of(layer: str) -> str | None:
    """The part of the network that a linear layer belongs to, None for one that is never quantised."""
    return next((part for part, pattern in PARTS.items() if pattern.fullmatch(layer)), None)


_DSFQ = Recipe(smooth=True)
RECIPES: Mapping[str, Recipe] = {
    "rtn": Recipe(rotate=False),
    "smoothquant": Recipe(rotate=False, smooth=True),
    "quarot": Recipe(),
    "gptq": Recipe(rotate=False, rounding="gptq"),
    "dsfq-static": _DSFQ,
    "dsfq": replace(_DSFQ, learning_epochs=15, propagate="float"),
    "best": Recipe(
        smooth=True,
        alpha=None,
        clip_weights=True,
        clip_activations=True,
        rounding="gptq",
        fold=True,
        correct=True,
    ),
}
"""By name: the baselines (Xiao et al. 2023; Ashkboos et al. 2024; Frantar et al. 2023), QuantVGGT without and with
learning, and our own. "quarot" needs no calibration data and neither does "rtn"."""
