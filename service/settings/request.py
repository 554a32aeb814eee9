"""Settings of what one request may hold and ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from service.settings.setting import setting


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may hold, and how its pictures are prepared."""

    mode: Literal["fit", "crop", "pad", "public"] = setting(
        "how pictures are brought to the network's size when a request does not say",
        "fit",
    )
    max_images: int = setting("most pictures in one request", 2000, ge=1)
    max_image_bytes: int = setting("most bytes of one picture file", 32 * 2**20, ge=1)
    max_total_bytes: int = setting("most bytes of one request body", 8 * 2**30, ge=1)
    max_pixels: int = setting(
        "most pixels of one picture, checked before decoding",
        50_000_000,
        ge=1,
    )
    max_total_pixels: int = setting(
        "most pixels of all pictures of one request",
        24_000_000_000,
        ge=1,
    )
    max_unpacked_bytes: int = setting(
        "most bytes of the pictures of one archive or video once unpacked",
        8 * 2**30,
        ge=1,
    )
    upload_timeout: float = setting(
        "seconds a request body, with what its URLs name, may take to arrive",
        900.0,
        gt=0,
    )
    video_timeout: float = setting("seconds that reading a video may take", 900.0, gt=0)
    export_memory: int = setting(
        "bytes of memory that making files of results may take, all together; one is made in any "
        "case, and the next ones wait",
        2**30,
        ge=1,
    )


@dataclass(frozen=True, kw_only=True)
class RefinementSettings:
    """How far cameras and depth are refined on the original pixels, and what that may take."""

    refine: Literal["off", "cameras", "dense"] = setting(
        "what is refined on the original pixels when a request does not say: nothing, cameras, or "
        "cameras and dense depth; needs the extra `refinement`",
        "off",
    )
    refine_seconds: float = setting(
        "most seconds that the refinement of one scene may take", 600.0, gt=0
    )
    refine_memory: int = setting(
        "most bytes that the process which refines a scene may take", 2 * 2**30, ge=2**28
    )
    refine_pixels: int = setting(
        "longer side of dense depth in pixels when a request does not say",
        1024,
        ge=256,
        le=4096,
    )
