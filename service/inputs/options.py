"""The options of a reconstruction: strict, bounded, the same in the form, in the query and in a stored result.

Every option is text on the wire. Lists are separated by commas; structured options are JSON.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Json, ValidationError, model_validator

from service.errors import InvalidOption

Mode = Literal["fit", "crop", "pad"]
Grid = Literal["original", "network"]

OUTPUTS = ("points.ply", "scene.glb", "colmap.zip", "transforms.json", "trajectory.txt", "cameras.json", "scene.npz")
"""Files that can be ordered to be ready as soon as a reconstruction is done. All others are made when asked for."""

_NAME_LENGTH = 120


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Finite = Annotated[float, AfterValidator(_finite)]
Row3 = Annotated[list[Finite], Field(min_length=3, max_length=3)]
Row4 = Annotated[list[Finite], Field(min_length=4, max_length=4)]
Positive = Annotated[float, Field(gt=0), AfterValidator(_finite)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KnownCamera(_Strict):
    """What is known of one picture's camera. Pixels are those of the original picture after EXIF rotation."""

    extrinsic: Annotated[list[Row4], Field(min_length=3, max_length=3)] | None = Field(
        None, description="world-to-camera [R|t], OpenCV axes, t in metres"
    )
    intrinsic: Annotated[list[Row3], Field(min_length=3, max_length=3)] | None = Field(
        None, description="pinhole camera matrix [[fx,0,cx],[0,fy,cy],[0,0,1]] in pixels"
    )

    @model_validator(mode="after")
    def _sound(self) -> KnownCamera:
        if self.extrinsic is not None:
            rotation = np.array(self.extrinsic)[:, :3]
            if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
                raise ValueError("the extrinsic's left 3 x 3 part is not a rotation")
        if self.intrinsic is not None:
            (fx, skew, _), (zero, fy, _), last = self.intrinsic
            if fx <= 0 or fy <= 0 or skew or zero or last != [0, 0, 1]:
                raise ValueError("the intrinsic is not [[fx,0,cx],[0,fy,cy],[0,0,1]] with positive fx and fy")
        return self


class PicturePoint(_Strict):
    """A place in one picture, in pixels of the original."""

    picture: int = Field(ge=0)
    x: Finite = Field(ge=0)
    y: Finite = Field(ge=0)


class KnownDistance(_Strict):
    """The true distance between two places that pictures show."""

    a: PicturePoint
    b: PicturePoint
    metres: Positive


def _frames(text: str) -> str:
    if not re.fullmatch(r"\d{1,6}(,\d{1,6})*", text):
        raise ValueError("must be picture numbers with commas between them, for example 0,2,5")
    return text


def _outputs(text: str) -> str:
    unknown = [name for name in text.split(",") if name not in OUTPUTS]
    if unknown:
        raise ValueError(f"{unknown[0][:_NAME_LENGTH]!r} is not one of {', '.join(OUTPUTS)}")
    return text


class PointOptions(_Strict):
    """Which points a cloud shows. A result remembers those it was made with; a download may ask for others."""

    confidence: float = Field(25.0, ge=0, le=100, description="leave out points below this percentile of confidence")
    max_points: int | None = Field(None, ge=1, le=2**31, description="keep at most this many points, sampled evenly")
    voxel_size: Positive | None = Field(
        None, le=1e9, description="keep the most confident point of each cube of this side, in the result's unit"
    )
    depth_edge: Positive | None = Field(
        None, le=1e3, description="leave out pixels where depth jumps by more than this share, for example 0.05"
    )
    mask_sky: bool = Field(False, description="leave out what looks like sky: smooth, bright or blue, from the top")
    mask_black: bool = Field(False, description="leave out pixels that are nearly black")
    mask_white: bool = Field(False, description="leave out pixels that are nearly white")
    frames: Annotated[str, AfterValidator(_frames)] | None = Field(
        None, max_length=8000, description="numbers of the pictures whose points are shown, for example 0,2,5",
        examples=["0,2"],
    )  # fmt: skip

    @property
    def frame_numbers(self) -> list[int] | None:
        return None if self.frames is None else sorted({int(number) for number in self.frames.split(",")})

    def over(self, stored: PointOptions) -> PointOptions:
        """These options, where they were given, on top of `stored` ones."""
        chosen = {
            name: getattr(self if name in self.model_fields_set else stored, name) for name in PointOptions.model_fields
        }
        return PointOptions(**chosen)


class Options(PointOptions):
    """Everything that a request may say beside its pictures."""

    mode: Mode | None = Field(
        None, description="how pictures are brought to the network's size; default: the service's"
    )
    order: Literal["sent", "natural"] | None = Field(
        None, description="order of the pictures; default: as sent, and within an archive natural order of names"
    )
    manifest: Json[Annotated[list[str], Field(min_length=1, max_length=10_000)]] | None = Field(
        None, description="file names in the order wanted, as JSON; pictures that it does not name are left out",
        examples=['["left.jpg", "right.jpg"]'],
    )  # fmt: skip
    fps: Positive | None = Field(None, le=120, description="frames taken from each second of a video; default 1")
    drop_blurred: bool = Field(True, description="leave out a video's frames that are far less sharp than the rest")
    close_loops: bool = Field(
        True, description="where a scene of several passes comes back to a place, look again and take back the drift"
    )
    cameras: Json[Annotated[list[KnownCamera | None], Field(max_length=10_000)]] | None = Field(
        None, description="known cameras, one entry (or null) per picture, as JSON",
        examples=['[{"intrinsic": [[500,0,320],[0,500,240],[0,0,1]]}, null]'],
    )  # fmt: skip
    known_distance: Json[KnownDistance] | None = Field(
        None, description="one known distance, which gives the result metres, as JSON",
        examples=['{"a": {"picture": 0, "x": 10, "y": 20}, "b": {"picture": 0, "x": 90, "y": 20}, "metres": 1.5}'],
    )  # fmt: skip
    query_points: Json[Annotated[list[tuple[Finite, Finite]], Field(min_length=1, max_length=1024)]] | None = Field(
        None, description="pixels [x, y] of the first picture to follow through all others, as JSON",
        examples=["[[10, 20], [30, 40]]"],
    )  # fmt: skip
    outputs: Annotated[str, AfterValidator(_outputs)] | None = Field(
        None, max_length=1000, description=f"files to have ready at once, comma-separated: {', '.join(OUTPUTS)}",
        examples=["scene.glb,colmap.zip"],
    )  # fmt: skip
    timeout: Positive | None = Field(
        None, le=86_400, description="seconds after which to give up; at most the service's"
    )
    dry_run: bool = Field(False, description="only predict memory and time")

    @property
    def output_names(self) -> list[str]:
        return list(dict.fromkeys(self.outputs.split(","))) if self.outputs else []

    def text(self) -> dict[str, Any]:
        """As it was sent, without what was not given; ``Options.model_validate`` reads it again."""
        return self.model_dump(mode="json", round_trip=True, exclude_unset=True)


def read_options(fields: dict[str, str]) -> Options:
    """Options from their text. Raises InvalidOption naming the field, what was given and what was expected."""
    try:
        return Options.model_validate_strings(fields)
    except ValidationError as error:
        raise invalid_option(error.errors()) from None


def invalid_option(errors: Any) -> InvalidOption:
    """The problem for what pydantic found wrong first."""
    first = errors[0]
    path = [str(part) for part in first["loc"] if part not in ("query", "path", "header", "body")]
    name = path[0] if path else "request"
    if first["type"] == "extra_forbidden" and len(path) == 1:
        known = ", ".join(Options.model_fields)
        return InvalidOption(f"There is no option {name[:_NAME_LENGTH]!r}; the options are {known}.", option=name)
    where = ".".join(path)[:_NAME_LENGTH]
    message = first["msg"].removeprefix("Value error, ")
    return InvalidOption(f"{where}: {message}; {str(first['input'])[:40]!r} was given.", option=name[:_NAME_LENGTH])
