"""What a caller may choose."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

CameraChoice = Literal["auto", "shared", "each"]
DistortionChoice = Literal["none", "radial"]


def _cores() -> int:
    """The processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


@dataclass(frozen=True)
class RefineOptions:
    """Limits and choices of one refinement. Raises ValueError for what makes no sense."""

    seconds: float = 120
    """How long all of it may take; what was found until then is kept."""
    memory_bytes: int = 2 << 30
    """How much memory the child process may hold."""
    camera: CameraChoice = "auto"
    """`shared`: pictures of one size share a lens; `each`: every picture has its own; `auto`:
    those of one size share it unless their EXIF data differ."""
    distortion: DistortionChoice = "radial"
    """`radial`: estimate one coefficient a lens; `none`: keep it 0."""
    pixels: int = 1024
    """Longer side of the dense depth maps, at most that of the picture."""
    threads: int = field(default_factory=_cores)
    device: str = "cpu"
    """Where dense depth is computed, as torch names it."""

    def __post_init__(self) -> None:
        for name in ("seconds", "memory_bytes", "pixels", "threads"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected more than 0")
