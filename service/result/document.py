"""The JSON that describes a reconstruction: its state while it is under way, cameras and files once
it is done.

The same document describes a served reconstruction and a folder on disk; only the links differ.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from model.scene.reconstruction import Reconstruction
from refinement.result import NETWORK, VERIFIED, Reason, Refinement
from service.result.delivery import DeliveryDocument
from service.states import JobState

_WORLD_OF_KNOWN_CAMERAS = (
    "The world is that of the known cameras that were sent: OpenCV camera axes (x right, y down, "
    "z forward), metres."
)
_WORLD_OF_THE_FIRST_PICTURE = (
    "The world is the frame of the first picture's camera: OpenCV axes (x right, y down, z "
    "forward)."
)
CONVENTIONS = (
    "extrinsic is world-to-camera [R|t]. intrinsic is in pixels of the original picture after EXIF "
    "rotation, distortion is k1 of COLMAP's SIMPLE_RADIAL model, "
    "intrinsic_network in pixels of the network's input; x_network = scale_x * x_original + "
    "offset_x, "
    "likewise y, in continuous coordinates with pixel edges at integers, so a pixel's centre is at "
    "+ 0.5."
)

RESULT_FILE = "result.json"
"""The document's own name in a folder with its files."""
PNG_LEVELS = 65535
"""The largest value of a depth PNG's 16 bits."""

Matrix = list[list[float]]
Links = dict[str, str | None]
"""Addresses by name. A stored document has none: they depend on where it is given out, see
`service.exports.links`."""

Unit = Literal["arbitrary", "metre"]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Size(_Document):
    """Pixels."""

    height: int
    width: int


class DomainDocument(_Document):
    """What a network was trained on: only of such pictures can answers be expected."""

    trained_on: str
    photographs: bool


class ActivationsDocument(_Document):
    """How the width of activations was chosen that the artifact has in 4 bits."""

    asked: Literal["auto", "4", "8"]
    wide: bool = Field(description="whether they have 8 bits here")
    cost: float | None = Field(
        description="with auto, the measured time of linear layers with 8 bits over that with 4"
    )


class ModelDocument(_Document):
    """Which network made this, and on what. `precision` lists the schemes of its quantised layers
    as they run, `activations` says how those were chosen (null until the network is loaded),
    `fallbacks` what of it runs in another way on this device, and why. `domain` is null if the
    artifact does not state it."""

    name: str
    artifact: str
    family: str | None = Field(None, description="networks that share a structure")
    size: str | None = Field(None, description="name of its shape; null if it has none")
    weights_licence: str | None
    commercial_use: bool | None = Field(
        None, description="whether that licence allows it; null if not known"
    )
    licence_source: str | None = Field(None, description="where that is said")
    device: str
    kernels: str
    precision: str = ""
    activations: ActivationsDocument | None = None
    fallbacks: list[str] = []
    domain: DomainDocument | None = None


class WarningDocument(_Document):
    """Something to know before an answer is used. `code` stays the same when the words of `message`
    change."""

    code: str
    message: str


class ScaleDocument(_Document):
    """Where the unit of lengths comes from. Residuals say how well what was known fits what the
    network saw."""

    unit: Unit = "arbitrary"
    provenance: Literal["network", "known cameras", "known distance"] = "network"
    factor: float = Field(1.0, description="lengths of the network times this are lengths here")
    position_residual: float | None = Field(
        None, description="root mean square error of the known camera centres"
    )
    rotation_residual_degrees: float | None = Field(
        None, description="median error of the known cameras' rotations"
    )
    distance_residual: float | None = Field(
        None, description="measured minus known distance, metres"
    )


def world_frame(scale: ScaleDocument) -> str:
    """What the world and its unit are, in words."""
    if scale.provenance == "known cameras":
        return _WORLD_OF_KNOWN_CAMERAS
    if scale.provenance == "known distance":
        unit = "The unit is the metre, from the known distance that was sent."
    elif scale.unit == "metre":
        unit = "The unit is the metre, as the network predicts it."
    else:
        unit = (
            "The scale is arbitrary: one unknown factor is common to all translations, depths and "
            "points."
        )
    return f"{_WORLD_OF_THE_FIRST_PICTURE} {unit}"


class DepthDocument(_Document):
    """Depth along the camera's z axis. `png_scale` times a 16-bit PNG value is depth; the value 0
    is no data."""

    min: float
    max: float
    png_scale: float
    links: Links = {}


class DenseDocument(_Document):
    """Dense depth of one picture from its original pixels. Counts of pixels: `verified` by several
    pictures, `filled` with the network's depth fitted to the verified ones around; the rest has
    none."""

    size: Size
    verified: int
    filled: int


class PictureDocument(_Document):
    """One picture, in the order of the reconstruction. `links.picture` is what the network saw, at
    its resolution. `distortion` is the k1 of COLMAP's SIMPLE_RADIAL model."""

    index: int
    filename: str
    original_size: Size
    network_size: Size
    transform: dict[str, Any]
    extrinsic: Matrix
    intrinsic: Matrix
    intrinsic_network: Matrix
    distortion: float = 0.0
    source: Literal["refined", "network"] = Field("network", description="whose camera this is")
    share: float | None = Field(
        None, description="verified matches of this picture that the cameras satisfy, 0 to 1"
    )
    observations: int | None = Field(None, description="sparse points that this picture sees")
    ray_angle: float | None = Field(
        None, description="median over those of the widest angle between rays, degrees"
    )
    depth: DepthDocument
    dense: DenseDocument | None = None
    links: Links = {}


class ReasonDocument(_Document):
    """Why something was not done. `code` stays the same when the words of `message` change."""

    code: str
    message: str


class RefinementDocument(_Document):
    """How far the cameras were refined on the original pixels. `support` is the share of verified
    matches between pictures that the cameras of this result satisfy, `network_support` that
    of the network's own."""

    asked: Literal["cameras", "dense"]
    method: str
    kept: int = Field(description="pictures whose cameras were refined")
    support: float | None
    network_support: float | None
    reason: ReasonDocument | None = Field(None, description="why not every camera was refined")
    dense_reason: ReasonDocument | None = Field(None, description="why there is no dense depth")
    points: int = Field(0, description="sparse points")
    seconds: dict[str, float] = {}
    peak_memory_bytes: int = 0


class StatusLinks(_Document):
    self: str
    events: str


class StatusDocument(_Document):
    """A reconstruction that is not done, or has ended without a result. Times are UTC,
    `eta_seconds` from now."""

    id: str
    state: Literal[
        JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING, JobState.FAILED, JobState.CANCELLED
    ]
    progress: float = Field(ge=0, le=1)
    stage: str | None
    queue_position: int | None = Field(
        description="reconstructions that run before this one; null once it runs"
    )
    eta_seconds: float | None
    frames: int
    created: datetime
    started: datetime | None
    finished: datetime | None
    problem: dict[str, Any] | None = Field(
        description="why it failed or was cancelled, as a problem document"
    )
    links: StatusLinks


class ReconstructionDocument(_Document):
    """The answer to POST /reconstruct. `timings` are seconds by stage."""

    id: str
    state: Literal[JobState.SUCCEEDED] = JobState.SUCCEEDED
    progress: Literal[1] = 1
    reused: bool = Field(
        False, description="this is an earlier result of the same pictures and options"
    )
    created: datetime
    started: datetime | None = None
    finished: datetime | None = None
    mode: str
    model: ModelDocument
    world_frame: str
    conventions: str
    scale: ScaleDocument = ScaleDocument()
    options: dict[str, Any] = Field({}, description="the options that were sent, as they were sent")
    run: dict[str, Any] = Field(
        {},
        description="passes, resolution, memory predicted and measured, what was given up, loops "
        "that were looked at",
    )
    refinement: RefinementDocument | None = Field(None, description="null if it was not asked for")
    warnings: list[WarningDocument] = []
    deliveries: list[DeliveryDocument] = Field([], description="files of `output_urls`")
    timings: dict[str, float]
    pictures: list[PictureDocument]
    links: Links = Field(
        {}, description="addresses of the result, its events and its files; null for none"
    )

    @property
    def has_tracks(self) -> bool:
        """Whether points were followed through the pictures."""
        return self.options.get("query_points") is not None

    @property
    def has_refined_cameras(self) -> bool:
        """Whether any picture's camera was refined."""
        return any(picture.source == "refined" for picture in self.pictures)

    @property
    def has_dense_depth(self) -> bool:
        """Whether depth was found from the original pixels."""
        return any(picture.dense is not None for picture in self.pictures)

    @property
    def used_pictures(self) -> list[int]:
        """The pictures that programs are given which rely on exact cameras: those that were
        refined, or all if none was."""
        return [
            picture.index
            for picture in self.pictures
            if picture.source == "refined" or not self.has_refined_cameras
        ]


def describe_pictures(
    reconstruction: Reconstruction,
    filenames: tuple[str, ...],
    refinement: Refinement | None = None,
    first: int = 0,
) -> list[PictureDocument]:
    """Every picture of a reconstruction, or of a part of one that begins with picture `first`. It
    has the cameras of `refinement`, if there is one."""
    pictures = []
    for row, (filename, transform) in enumerate(
        zip(filenames, reconstruction.transforms, strict=True)
    ):
        index = first + row
        seen = reconstruction.depth[row][reconstruction.mask[row]].numpy()
        dense = None
        if refinement is not None and refinement.dense is not None:
            found = refinement.dense[index]
            seen = np.concatenate([seen, found.depth[np.isfinite(found.depth)]])
            dense = DenseDocument(
                size=_size(found.depth.shape),
                verified=int((found.source == VERIFIED).sum()),
                filled=int((found.source == NETWORK).sum()),
            )
        nearest, farthest = float(seen.min()), float(seen.max())
        document = PictureDocument(
            index=index,
            filename=filename,
            original_size=_size(transform.original_size),
            network_size=_size(transform.network_size),
            transform=transform.to_dict(),
            extrinsic=reconstruction.extrinsics[row].tolist(),
            intrinsic=reconstruction.original_intrinsics[row].tolist(),
            intrinsic_network=reconstruction.intrinsics[row].tolist(),
            depth=DepthDocument(min=nearest, max=farthest, png_scale=depth_scale(farthest)),
            dense=dense,
        )
        if refinement is not None:
            picture = refinement.pictures[index]
            document = document.model_copy(
                update={
                    name: getattr(picture, name)
                    for name in ("distortion", "source", "share", "observations", "ray_angle")
                }
            )
        pictures.append(document)
    return pictures


def describe_refinement(
    refinement: Refinement, asked: Literal["cameras", "dense"]
) -> RefinementDocument:
    """What a result's document says of its refinement."""
    return RefinementDocument(
        asked=asked,
        method=refinement.method,
        kept=refinement.kept,
        support=refinement.support,
        network_support=refinement.network_support,
        reason=_reason(refinement.reason),
        dense_reason=_reason(refinement.dense_reason),
        points=0 if refinement.sparse is None else len(refinement.sparse.xyz),
        seconds=dict(refinement.seconds),
        peak_memory_bytes=refinement.peak_bytes,
    )


def _reason(reason: Reason | None) -> ReasonDocument | None:
    return None if reason is None else ReasonDocument(code=reason.code, message=reason.message)


def depth_scale(largest: float) -> float:
    """Depth units per step of the 16-bit PNG, so that the largest depth takes the highest value."""
    return max(largest, float(np.finfo(np.float32).tiny)) / PNG_LEVELS


def _size(size: tuple[int, ...]) -> Size:
    return Size(height=size[0], width=size[1])
