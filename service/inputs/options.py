"""The options of a reconstruction: strict, bounded, the same in the form, in the query and in a
stored result.

Every option is text on the wire. Lists are separated by commas; structured options are JSON.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    ValidationError,
    model_validator,
)

from service.errors import InvalidOption
from service.exports.options import Finite, PointOptions, Positive
from service.exports.records import OUTPUTS, SCENE_FILES
from service.inputs.remote.hosts import URL_LENGTH

Mode = Literal["fit", "crop", "pad", "public"]
Refine = Literal["off", "cameras", "dense"]

_NAME_LENGTH = 120
_PREFIX_LENGTH = 512


# beyond these bounds no scene lies, and 32-bit numbers lose what is measured
Bounded = Annotated[Finite, Field(ge=-1e9, le=1e9)]
Row3 = Annotated[list[Bounded], Field(min_length=3, max_length=3)]
Row4 = Annotated[list[Bounded], Field(min_length=4, max_length=4)]
_LEAST_FOCAL_LENGTH = 1e-2  # pixels


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KnownCamera(_Strict):
    """What is known of one picture's camera. Pixels are those of the original picture after EXIF
    rotation."""

    extrinsic: Annotated[list[Row4], Field(min_length=3, max_length=3)] | None = Field(
        None,
        examples=[[[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0]]],
        description="world-to-camera [R|t], OpenCV axes, t in metres",
    )
    intrinsic: Annotated[list[Row3], Field(min_length=3, max_length=3)] | None = Field(
        None,
        examples=[[[500, 0, 320], [0, 500, 240], [0, 0, 1]]],
        description="pinhole camera matrix [[fx,0,cx],[0,fy,cy],[0,0,1]] in pixels",
    )

    @model_validator(mode="after")
    def _sound(self) -> KnownCamera:
        if self.extrinsic is not None:
            rotation = np.array(self.extrinsic)[:, :3]
            error = np.abs(rotation @ rotation.T - np.eye(3)).max()
            if not (error <= 1e-3 and np.linalg.det(rotation) > 0):
                raise ValueError("the extrinsic's left 3 x 3 part is not a rotation")
        if self.intrinsic is not None:
            (fx, skew, _), (zero, fy, _), last = self.intrinsic
            if min(fx, fy) < _LEAST_FOCAL_LENGTH or skew or zero or last != [0, 0, 1]:
                raise ValueError(
                    "the intrinsic is not [[fx,0,cx],[0,fy,cy],[0,0,1]] with fx and fy of at least "
                    f"{_LEAST_FOCAL_LENGTH:g}"
                )
        return self


class PicturePoint(_Strict):
    """A place in one picture, in pixels of the original."""

    picture: int = Field(ge=0, examples=[0], description="number of the picture, from 0")
    x: Finite = Field(ge=0, examples=[10.0], description="pixels from the left edge")
    y: Finite = Field(ge=0, examples=[20.0], description="pixels from the upper edge")


class KnownDistance(_Strict):
    """The true distance between two places that pictures show."""

    a: PicturePoint = Field(examples=[{"picture": 0, "x": 10, "y": 20}])
    b: PicturePoint = Field(examples=[{"picture": 0, "x": 90, "y": 20}])
    metres: Finite = Field(
        ge=1e-6, le=1e9, examples=[1.5], description="the distance between a and b"
    )


def _outputs(text: str) -> str:
    unknown = [name for name in text.split(",") if name not in OUTPUTS]
    if unknown:
        raise ValueError(f"{unknown[0][:_NAME_LENGTH]!r} is not one of {', '.join(OUTPUTS)}")
    return text


def _attention_keys(text: str) -> str:
    if text not in ("auto", "all") and not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise ValueError("must be auto, all, or a number of tokens such as 33312")
    return text


def _passes(text: str) -> str:
    if text not in ("auto", "one") and not re.fullmatch("[2-9]|[1-9][0-9]{1,5}", text):
        raise ValueError("must be auto, one, or a number of frames of at least 2 such as 96")
    return text


def _output_urls(urls: dict[str, str]) -> dict[str, str]:
    unknown = [name for name in urls if name not in SCENE_FILES]
    if unknown:
        raise ValueError(
            f"{unknown[0][:_NAME_LENGTH]!r} is not one of {', '.join(SCENE_FILES)}; files of "
            "single pictures are in everything.zip"
        )
    if len(set(urls.values())) < len(urls):
        raise ValueError("each file needs a URL of its own")
    return urls


OutputURLs = Annotated[
    dict[str, Annotated[str, Field(max_length=URL_LENGTH)]],
    Field(min_length=1),
    AfterValidator(_output_urls),
]
QueryPoints = Annotated[list[tuple[Finite, Finite]], Field(min_length=1, max_length=1024)]


class Options(PointOptions):
    """Everything that a request may say beside its pictures."""

    mode: Mode | None = Field(
        None,
        examples=["fit"],
        description="how pictures are brought to the network's size; default: the service's",
    )
    order: Literal["sent", "natural"] | None = Field(
        None,
        examples=["natural"],
        description="order of the pictures; default: as sent, and within an archive natural order "
        "of names",
    )
    manifest: Json[Annotated[list[str], Field(min_length=1, max_length=10_000)]] | None = Field(
        None,
        description="file names in the order wanted, as JSON; pictures that it does not name "
        "are left out",
        examples=['["left.jpg", "right.jpg"]'],
    )
    fps: Positive | None = Field(
        None,
        le=120,
        examples=[2.0],
        description="frames taken from each second of a video; default 1",
    )
    video_frames: Literal["clock", "auto"] = Field(
        "clock",
        examples=["auto"],
        description="which frames of a video are taken: by the clock (see fps), or auto: those "
        "that show something new, however fast the camera moves; fps is then how many are looked "
        "at in a second, by default 10",
    )
    drop_blurred: bool = Field(
        True,
        examples=[False],
        description="leave out a video's frames that are far less sharp than the rest",
    )
    attention_keys: Annotated[str, AfterValidator(_attention_keys)] = Field(
        "auto",
        examples=["all"],
        description="tokens that attention over the scene looks at: all of them, which is exact; a "
        "number, about; or auto: the service's, by default 33312",
    )
    passes: Annotated[str, AfterValidator(_passes)] = Field(
        "auto",
        examples=["one"],
        description="how the scene is divided: one pass, as far as memory admits; a number of "
        "frames a pass; or auto: one pass up to 123 frames, then passes of 96 that share 32",
    )
    close_loops: bool = Field(
        True,
        examples=[False],
        description="where a scene of several passes comes back to a place, look again and take "
        "back the drift",
    )
    cameras: Json[Annotated[list[KnownCamera | None], Field(max_length=10_000)]] | None = Field(
        None,
        description="known cameras, one entry (or null) per picture, as JSON",
        examples=['[{"intrinsic": [[500,0,320],[0,500,240],[0,0,1]]}, null]'],
    )
    known_distance: Json[KnownDistance] | None = Field(
        None,
        description="one known distance, which gives the result metres, as JSON",
        examples=[
            '{"a": {"picture": 0, "x": 10, "y": 20}, "b": {"picture": 0, "x": 90, "y": 20}, '
            '"metres": 1.5}'
        ],
    )
    query_points: Json[QueryPoints] | None = Field(
        None,
        description="pixels [x, y] of the first picture to follow through all others, as JSON",
        examples=["[[10, 20], [30, 40]]"],
    )
    refine: Refine | None = Field(
        None,
        examples=["dense"],
        description="what is refined on the original pixels: off, cameras, or dense: cameras and "
        "depth; default: the service's",
    )
    refine_camera: Literal["auto", "shared", "each"] = Field(
        "auto",
        examples=["shared"],
        description="whether one camera took all pictures: shared, each (one for each picture), or "
        "auto: shared by those of one size and one lens",
    )
    refine_distortion: Literal["none", "radial"] = Field(
        "radial",
        examples=["none"],
        description="lens distortion that the refined cameras may have: radial, or none for "
        "pictures that were undistorted before",
    )
    refine_pixels: int | None = Field(
        None,
        ge=256,
        le=4096,
        examples=[1600],
        description="longer side of dense depth in pixels, at most the picture's; default: the "
        "service's",
    )
    refine_seconds: Positive | None = Field(
        None,
        le=86_400,
        examples=[120.0],
        description="seconds that the refinement may take; at most the service's",
    )
    outputs: Annotated[str, AfterValidator(_outputs)] | None = Field(
        None,
        max_length=1000,
        description=f"files to have ready at once, comma-separated: {', '.join(OUTPUTS)}",
        examples=["scene.glb,colmap.zip"],
    )
    model: str | None = Field(
        None,
        max_length=64,
        examples=["indoor"],
        description="name of the model that reconstructs, one of GET /models; default: the first",
    )
    timeout: Positive | None = Field(
        None,
        le=86_400,
        examples=[60.0],
        description="seconds after which to give up; at most the service's",
    )
    callback_url: str | None = Field(
        None,
        max_length=URL_LENGTH,
        examples=["https://hooks.example.org/reconstructed"],
        description="address that gets a signed POST once the reconstruction has ended, where the "
        "service calls addresses (`callbacks` of /capabilities)",
    )
    output_urls: Json[OutputURLs] | None = Field(
        None,
        description="https URLs that files of the result are sent to by PUT, by the files' names, "
        "as JSON, where the service sends files (`output_urls` of /capabilities)",
        examples=['{"scene.glb": "https://bucket.example.org/kitchen.glb?signature=5f1c"}'],
    )
    output: str | None = Field(
        None,
        max_length=_PREFIX_LENGTH,
        examples=["s3://bucket/results/kitchen"],
        description="prefix of an object store that the files of `outputs`, or without it "
        "everything.zip, are copied below, where the service does so (`output` of /capabilities)",
    )
    dry_run: bool = Field(False, examples=[True], description="only predict memory and time")

    def knows_intrinsic(self, picture: int) -> bool:
        """Whether the client knows this picture's intrinsic matrix."""
        camera = self.cameras[picture] if self.cameras and picture < len(self.cameras) else None
        return camera is not None and camera.intrinsic is not None

    @property
    def output_names(self) -> list[str]:
        return list(dict.fromkeys(self.outputs.split(","))) if self.outputs else []

    @property
    def targets(self) -> list[tuple[str, str]]:
        """Files that are to be sent somewhere, each with the URL that it is sent to."""
        targets = list((self.output_urls or {}).items())
        if self.output is not None:
            prefix = self.output.rstrip("/")
            targets += [(f, f"{prefix}/{f}") for f in self.output_names or ["everything.zip"]]
        return targets

    def text(self) -> dict[str, Any]:
        """As it was sent, without what was not given and without addresses, which are nobody else's
        business; ``Options.model_validate`` reads it again."""
        return self.model_dump(
            mode="json",
            round_trip=True,
            exclude_unset=True,
            exclude={"callback_url", "output_urls", "output"},
        )


def read_options(fields: dict[str, str]) -> Options:
    """Options from their text. Raises InvalidOption naming the field, what was given and what was
    expected."""
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
        return InvalidOption(
            f"There is no option {name[:_NAME_LENGTH]!r}; the options are {known}.", option=name
        )
    where = ".".join(path)[:_NAME_LENGTH]
    message = first["msg"].removeprefix("Value error, ")
    return InvalidOption(
        f"{where}: {message}; {str(first['input'])[:40]!r} was given.", option=name[:_NAME_LENGTH]
    )
