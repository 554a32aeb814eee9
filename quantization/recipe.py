"""What is quantised, and how: one frozen object, stored in the artifact's manifest, and the recipes
with a name.

A recipe suits every family of networks: which parts there are, and the usual scheme of each, the
family says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kernels import FORMATS, NumberFormat
from model.families.family import Family
from model.network.attention import ATTENTION
from model.network.dpt_head import ARITHMETIC as DENSE_HEADS

FLOAT = "float"
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

    `parts` names parts whose scheme is not the family's usual one, "float" to leave a part as it
    is; `overrides` names single layers. Norms, convolutions, the dense heads and the tracker are
    never computed in integers.
    """

    parts: tuple[tuple[str, str], ...] = ()
    overrides: tuple[tuple[str, str], ...] = ()
    rotate: bool = True  # random signs and a Hadamard matrix before quantisation
    smooth: bool = False  # channel scale from the statistics of the transformed input and weight
    alpha: float | None = 0.5  # of smoothing; None searches it layer by layer
    clip_weights: bool = False  # error-minimising clip, row by row
    clip_activations: bool = False  # error-minimising clip, layer by layer
    rounding: str = "nearest"
    fold: bool = False  # LayerNorm, LayerScale and input means into neighbours
    correct: bool = False  # regress weight and bias on the inputs that the layer will see
    wide: bool = False  # also what 8-bit activations need, for layers that have 4-bit ones
    wide_share: float = 0.75  # weight of inputs of 8 bits in the codes that both widths share
    learning_epochs: int = 0  # block reconstruction of smoothing and clips
    # or "int8": arithmetic of attention in the aggregator and the image encoder
    attention: str = "float"
    dense_heads: str = "float32"  # or "bfloat16": arithmetic of their convolutions
    propagate: str = "quantised"  # inputs of a block while it is quantised: "quantised" or "float"
    seed: int = 0

    def __post_init__(self) -> None:
        for _, scheme in (*self.parts, *self.overrides):
            find_scheme(scheme)
        if self.rounding not in ROUNDINGS:
            raise ValueError(
                f"rounding is {self.rounding!r}; expected one of {', '.join(ROUNDINGS)}"
            )
        for setting, known in (("attention", ATTENTION), ("dense_heads", DENSE_HEADS)):
            if getattr(self, setting) not in known:
                raise ValueError(
                    f"{setting} is {getattr(self, setting)!r}; expected one of {', '.join(known)}"
                )
        if self.propagate not in ("quantised", "float"):
            raise ValueError(f"propagate is {self.propagate!r}; expected quantised or float")
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}; expected a number from 0 to 1")
        if not 0 <= self.wide_share <= 1:
            raise ValueError(f"wide_share is {self.wide_share}; expected a number from 0 to 1")
        if self.learning_epochs < 0:
            raise ValueError(f"learning_epochs is {self.learning_epochs}; expected at least 0")

    @property
    def needs_calibration(self) -> bool:
        """Whether any step looks at activations."""
        looks = (self.smooth, self.clip_activations, self.clip_weights, self.fold, self.correct)
        return any(looks) or self.rounding != "nearest" or self.learning_epochs > 0

    def with_parts(self, **schemes: str) -> Recipe:
        """The same with these schemes for parts of the network, by name."""
        return replace(self, parts=tuple({**dict(self.parts), **schemes}.items()))

    def of(self, family: Family) -> Recipe:
        """The same with a scheme for every part that networks of `family` have.

        Raises ValueError if it names other parts, or quantises nothing.
        """
        unknown = sorted(set(dict(self.parts)) - set(family.parts))
        if unknown:
            raise ValueError(
                f"networks of family {family.name} have no part {', '.join(unknown)}; they have "
                f"{', '.join(family.parts)}"
            )
        schemes = {name: part.scheme for name, part in family.parts.items()} | dict(self.parts)
        if set(schemes.values()) == {FLOAT} and not self.overrides:
            raise ValueError("this recipe quantises nothing; give at least one part a scheme")
        return replace(self, parts=tuple(schemes.items()))

    def scheme(self, family: Family, layer: str) -> NumberFormat | None:
        """Scheme of the layer with this module name in a network of `family`; None leaves it in
        float."""
        part = family.part_of(layer)
        if part is None:
            return None
        usual = dict(self.parts).get(part, family.parts[part].scheme)
        return find_scheme(dict(self.overrides).get(layer, usual))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the manifest: the parts by name, then everything else."""
        rest = dataclasses.asdict(self)
        del rest["parts"]
        return {**dict(self.parts), **rest, "overrides": dict(self.overrides)}


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
        wide=True,
    ),
}
"""By name: the baselines (Xiao et al. 2023; Ashkboos et al. 2024; Frantar et al. 2023), QuantVGGT
without and with learning, and our own. "quarot" needs no calibration data and neither does
"rtn"."""
