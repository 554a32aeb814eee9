"""Network families: one module or package each, and the registry of their records.

To add one, write its `Family` record and name it in `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.families.depth_anything_3.family import DEPTH_ANYTHING_3
from model.families.family import Family, Licence, Shapes
from model.families.pi3.family import PI3
from model.families.vggt.family import VGGT
from model.network.config import NetworkConfig

FAMILIES: Mapping[str, Family] = {family.name: family for family in (VGGT, DEPTH_ANYTHING_3, PI3)}
FIRST = VGGT.name
"""The family of artifacts from before there were others, which name none."""
HEADS = tuple(dict.fromkeys(head for family in FAMILIES.values() for head in family.heads))
"""Heads that some network has."""
PARTS = tuple(dict.fromkeys(part for family in FAMILIES.values() for part in family.parts))
"""Parts that are quantised in some network."""
PRESETS: Mapping[str, NetworkConfig] = {
    name: config for family in FAMILIES.values() for name, config in family.presets.items()
}
"""Shapes with a name."""
LICENCES: Mapping[str, Licence] = {
    name: licence for family in FAMILIES.values() for name, licence in family.licences.items()
}
"""Of public weights, by what they are loaded as."""


def named(name: str) -> Family:
    """The family of this name. Raises ValueError if there is none."""
    if name not in FAMILIES:
        raise ValueError(f"there is no network family {name!r}; known: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def of(config: NetworkConfig) -> Family:
    """The family that a network's configuration belongs to."""
    return FAMILIES[config.family]


def size_of(config: NetworkConfig) -> str | None:
    """The name of a network's shape, if it has one; heads may be left out of it."""
    for name, preset in PRESETS.items():
        if preset.family == config.family:
            kept = preset.with_heads([head for head in preset.heads if head in config.heads])
            if kept == config:
                return name
    return None


def recognise(
    config_json: Mapping[str, Any] | None, tensors: Shapes, location: str = ""
) -> NetworkConfig | None:
    """The network of a public checkpoint from its `config.json`, if it has one, its tensors, and
    the location that it is loaded from, for what neither of them tells.

    None if no family knows it. Raises ValueError or TypeError if its configuration is broken.
    """
    found = (family.recognise(config_json, tensors, location) for family in FAMILIES.values())
    return next((config for config in found if config is not None), None)
