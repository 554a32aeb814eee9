"""The networks, their stored forms, and the way from pictures to cameras and points.

What needs torch is imported when it is first used, so that manifests can be read without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.families.vggt.config import VGGTConfig
    from model.families.vggt.network import VGGT
    from model.network.prediction import Prediction

__all__ = ["VGGT", "Prediction", "VGGTConfig"]

_HOMES = {
    "VGGT": "model.families.vggt.network",
    "Prediction": "model.network.prediction",
    "VGGTConfig": "model.families.vggt.config",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
