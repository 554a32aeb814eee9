"""What can be chosen when a file is made from a result: query parameters of a download, and
defaults of a request.

Every option is text on the wire. Lists are separated by commas.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from service.result.scene import PREVIEW_SIDE, Grid


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _frames(text: str) -> str:
    if not re.fullmatch(r"\d{1,6}(,\d{1,6})*", text):
        raise ValueError("must be picture numbers with commas between them, for example 0,2,5")
    return text


Finite = Annotated[float, AfterValidator(_finite)]
Positive = Annotated[float, Field(gt=0), AfterValidator(_finite)]


class ExportOptions(BaseModel):
    """The options of an export that has none, and the base of all others."""

    model_config = ConfigDict(frozen=True)


class PointOptions(ExportOptions):
    """Which points a cloud shows. A result remembers those it was made with; a download may ask for
    others."""

    model_config = ConfigDict(extra="forbid")

    confidence: float = Field(
        25.0, ge=0, le=100, examples=[40.0],
        description="leave out points below this percentile of confidence",
    )  # fmt: skip
    max_points: int | None = Field(
        None, ge=1, le=2**31, examples=[200_000],
        description="keep at most this many points, sampled evenly; default 10 million",
    )  # fmt: skip
    voxel_size: Positive | None = Field(
        None, le=1e9, examples=[0.02],
        description="keep the most confident point of each cube of this side, in the result's unit",
    )  # fmt: skip
    depth_edge: Positive | None = Field(
        None, le=1e3, examples=[0.05],
        description="leave out pixels where depth jumps by more than this share",
    )  # fmt: skip
    mask_sky: bool = Field(
        False, examples=[True],
        description="leave out what looks like sky: smooth, bright or blue, from the top",
    )  # fmt: skip
    mask_black: bool = Field(
        False, examples=[True], description="leave out pixels that are nearly black"
    )
    mask_white: bool = Field(
        False, examples=[True], description="leave out pixels that are nearly white"
    )
    frames: Annotated[str, AfterValidator(_frames)] | None = Field(
        None, max_length=8000, examples=["0,2"],
        description="numbers of the pictures whose points are shown, with commas between them",
    )  # fmt: skip

    points: Literal["verified", "all"] | None = Field(
        None, examples=["all"],
        description="with dense depth: only pixels that several pictures agree on (the default), "
        "or also those filled with the network's depth; colmap.zip of refined cameras has the "
        "triangulated points alone unless this is given",
    )  # fmt: skip

    @property
    def frame_numbers(self) -> list[int] | None:
        """The numbers in `frames`, in ascending order; None for all pictures."""
        return (
            None
            if self.frames is None
            else sorted({int(number) for number in self.frames.split(",")})
        )


class MetricOptions(ExportOptions):
    """The unit of a file's lengths."""

    metres_per_unit: Positive | None = Field(
        None, ge=1e-9, le=1e9, examples=[1.37],
        description="give lengths in metres; one unit of the result is so many metres long",
    )  # fmt: skip


class PointFileOptions(PointOptions, MetricOptions):
    """Which points a file holds, and their unit."""


class ViewOptions(ExportOptions):
    """How many points a viewer is given."""

    max_points: int = Field(
        1_000_000, ge=1, le=4_000_000, examples=[300_000],
        description="at most this many points, sampled evenly",
    )  # fmt: skip


class MapOptions(ExportOptions):
    """How a map of one picture is given."""

    grid: Grid = Field(
        "original", examples=["network"],
        description="pixel grid: the picture's own, or the one that the network worked on",
    )  # fmt: skip


class DepthOptions(MapOptions, MetricOptions):
    """How depth of one picture is given."""


class MapPreviewOptions(MapOptions):
    """How a map of one picture is shown in colours."""

    max_side: int | None = Field(
        None, ge=16, le=8192, examples=[1024],
        description="longer side in pixels at most; default: as large as the grid",
    )  # fmt: skip


class PicturePreviewOptions(ExportOptions):
    """How large a picture is shown."""

    max_side: int = Field(
        PREVIEW_SIDE, ge=16, le=PREVIEW_SIDE, examples=[256],
        description="longer side in pixels at most",
    )  # fmt: skip
