"""The JSON that describes a reconstruction: its state while it is under way, cameras and files once it is done.

The same document describes a served reconstruction and a folder on disk; only the links differ.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from model.scene.reconstruction import Reconstruction
from service.exports.depth import depth_scale
from service.states import JobState

WORLD_FRAME = (
    "The world is the frame of the first picture's camera as the network predicts it: OpenCV axes (x right, y down, "
    "z forward). The scale is arbitrary: one unknown factor is common to all translations, depths and points."
)
ALIGNED_WORLD_FRAME = (
    "The world is that of the known cameras that were sent: OpenCV camera axes (x right, y down, z forward), metres."
)
METRIC_WORLD_FRAME = (
    "The world is the frame of the first picture's camera as the network predicts it: OpenCV axes (x right, y down, "
    "z forward). The unit is the metre, from the known distance that was sent."
)
CONVENTIONS = (
    "extrinsic is world-to-camera [R|t]. intrinsic is in pixels of the original picture after EXIF rotation, "
    "intrinsic_network in pixels of the network's input; x_network = scale_x * x_original + offset_x, "
    "likewise y, in continuous coordinates with pixel edges at integers, so a pixel's centre is at + 0.5."
)

Matrix = list[list[float]]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Size(_Document):
    """Pixels."""

    height: int
    width: int


class ModelDocument(_Document):
    """Which network made this, and on what. `precision` lists the schemes of its quantised layers, `fallbacks` what of
    it runs in another way on this device, and why."""

    name: str
    artifact: str
    weights_licence: str | None
    device: str
    kernels: str
    precision: str = ""
    fallbacks: list[str] = []


class ScaleDocument(_Document):
    """Where the unit of lengths comes from. Residuals say how well what was known fits what the network saw."""

    unit: Literal["arbitrary", "metre"] = "arbitrary"
    provenance: Literal["network", "known cameras", "known distance"] = "network"
    factor: float = Field(1.0, description="lengths of the network times this are lengths here")
    position_residual: float | None = Field(None, description="root mean square error of the known camera centres")
    rotation_residual_degrees: float | None = Field(None, description="median error of the known cameras' rotations")
    distance_residual: float | None = Field(None, description="measured minus known distance, metres")


class DepthLinks(_Document):
    png: str
    npy: str
    exr: str
    preview: str

    @classmethod
    def of(cls, prefix: str, index: int) -> DepthLinks:
        depth = f"{prefix}depth/{index}"
        return cls(png=f"{depth}.png", npy=f"{depth}.npy", exr=f"{depth}.exr", preview=f"{depth}/preview.png")


class DepthDocument(_Document):
    """Depth along the camera's z axis. `png_scale` times a 16-bit PNG value is depth; the value 0 is no data."""

    min: float
    max: float
    png_scale: float
    links: DepthLinks


class PictureLinks(_Document):
    confidence: str
    confidence_preview: str
    picture: str

    @classmethod
    def of(cls, prefix: str, index: int) -> PictureLinks:
        return cls(
            confidence=f"{prefix}confidence/{index}.npy",
            confidence_preview=f"{prefix}confidence/{index}/preview.png",
            picture=f"{prefix}pictures/{index}.png",
        )


class PictureDocument(_Document):
    """One picture, in the order of the reconstruction. `links.picture` is what the network saw, at its resolution."""

    index: int
    filename: str
    original_size: Size
    network_size: Size
    transform: dict[str, Any]
    extrinsic: Matrix
    intrinsic: Matrix
    intrinsic_network: Matrix
    depth: DepthDocument
    links: PictureLinks


class Links(_Document):
    self: str
    events: str
    points: str
    points_ascii: str
    scene_glb: str
    colmap: str
    colmap_text: str
    transforms: str
    trajectory: str
    cameras: str
    npz: str
    tracks: str | None
    manifest: str
    archive: str

    @classmethod
    def of(cls, prefix: str, own: str, has_tracks: bool) -> Links:
        return cls(
            self=own,
            events=f"{prefix}events",
            points=f"{prefix}points.ply",
            points_ascii=f"{prefix}points-ascii.ply",
            scene_glb=f"{prefix}scene.glb",
            colmap=f"{prefix}colmap.zip",
            colmap_text=f"{prefix}colmap-text.zip",
            transforms=f"{prefix}transforms.json",
            trajectory=f"{prefix}trajectory.txt",
            cameras=f"{prefix}cameras.json",
            npz=f"{prefix}scene.npz",
            tracks=f"{prefix}tracks.json" if has_tracks else None,
            manifest=f"{prefix}manifest.json",
            archive=f"{prefix}everything.zip",
        )


class StatusLinks(_Document):
    self: str
    events: str


class StatusDocument(_Document):
    """A reconstruction that is not done, or has ended without a result. Times are UTC, `eta_seconds` from now."""

    id: str
    state: Literal[JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING, JobState.FAILED, JobState.CANCELLED]
    progress: float = Field(ge=0, le=1)
    stage: str | None
    queue_position: int | None = Field(description="reconstructions that run before this one; null once it runs")
    eta_seconds: float | None
    frames: int
    created: datetime
    started: datetime | None
    finished: datetime | None
    problem: dict[str, Any] | None = Field(description="why it failed or was cancelled, as a problem document")
    links: StatusLinks


class ReconstructionDocument(_Document):
    """The answer to POST /reconstruct. `timings` are seconds by stage."""

    id: str
    state: Literal[JobState.SUCCEEDED] = JobState.SUCCEEDED
    progress: Literal[1] = 1
    reused: bool = Field(False, description="this is an earlier result of the same pictures and options")
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
        description="passes, resolution, memory predicted and measured, what was given up, loops that were looked at",
    )
    timings: dict[str, float]
    pictures: list[PictureDocument]
    links: Links

    def served_at(self, address: str) -> ReconstructionDocument:
        """The same document with links as the server at `address` answers them."""
        return self._linked(f"{address}/", address)

    def in_folder(self) -> ReconstructionDocument:
        """The same document with links relative to the folder that it lies in."""
        return self._linked("", "result.json")

    def _linked(self, prefix: str, own: str) -> ReconstructionDocument:
        pictures = []
        for picture in self.pictures:
            depth = picture.depth.model_copy(update={"links": DepthLinks.of(prefix, picture.index)})
            own_links = PictureLinks.of(prefix, picture.index)
            pictures.append(picture.model_copy(update={"depth": depth, "links": own_links}))
        links = Links.of(prefix, own, self.links.tracks is not None)
        return self.model_copy(update={"links": links, "pictures": pictures})


def describe_pictures(reconstruction: Reconstruction, filenames: tuple[str, ...]) -> list[PictureDocument]:
    """Every picture of a reconstruction, with relative links."""
    pictures = []
    for index, (filename, transform) in enumerate(zip(filenames, reconstruction.transforms, strict=True)):
        seen = reconstruction.depth[index][reconstruction.mask[index]]
        nearest, farthest = float(seen.min()), float(seen.max())
        pictures.append(
            PictureDocument(
                index=index,
                filename=filename,
                original_size=_size(transform.original_size),
                network_size=_size(transform.network_size),
                transform=transform.to_dict(),
                extrinsic=reconstruction.extrinsics[index].tolist(),
                intrinsic=reconstruction.original_intrinsics[index].tolist(),
                intrinsic_network=reconstruction.intrinsics[index].tolist(),
                depth=DepthDocument(
                    min=nearest,
                    max=farthest,
                    png_scale=depth_scale(farthest),
                    links=DepthLinks.of("", index),
                ),
                links=PictureLinks.of("", index),
            )
        )
    return pictures


def _size(size: tuple[int, int]) -> Size:
    return Size(height=size[0], width=size[1])
