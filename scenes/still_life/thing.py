"""Things: meshes and what they are made of."""

from __future__ import annotations

from dataclasses import dataclass

from scenes.still_life.mesh import Mesh
from scenes.still_life.paint import Texture


@dataclass(frozen=True)
class Finish:
    """How a surface looks: sRGB texture [h, w, 3], roughness and reflection of a glossy coat."""

    texture: Texture
    roughness: float = 0.6
    specular: float = 0.35
    metallic: float = 0.0


@dataclass(frozen=True)
class Thing:
    """One mesh of one finish."""

    name: str
    mesh: Mesh
    finish: Finish
