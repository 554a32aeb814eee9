"""The JSON that describes a reconstruction: cameras and sizes of every picture, and where the files lie.

The same document describes a served reconstruction and a folder on disk; only the links differ.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from model.reconstruction import Reconstruction
from service.exports import depth_scale

WORLD_FRAME = (
    "The world is the frame of the first picture's camera as the network predicts it: OpenCV axes (x right, y down, "
    "z forward). The scale is arbitrary: one unknown factor is common to all translations, depths and points."
)
CONVENTIONS = (
    "extrinsic is world-to-camera [R|t]. intrinsic is in pixels of the original picture after EXIF rotation, "
    "intrinsic_network in pixels of the network's input; x_network = scale_x * x_original + offset_x, "
    "likewise y, in continuous coordinates with pixel edges at integers."
)

Matrix = list[list[float]]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Size(_Document):
    """Pixels."""

    height: int
    width: int


class ModelDocument(_Document):
    """Which network made this, and on what."""

    name: str
    artifact: str
    weights_licence: str | None
    device: str
    kernels: str


class DepthLinks(_Document):
    png: str
    npy: str
    preview: str

    @classmethod
    def of(cls, prefix: str, index: int) -> DepthLinks:
        depth = f"{prefix}depth/{index}"
        return cls(png=f"{depth}.png", npy=f"{depth}.npy", preview=f"{depth}/preview.png")


class DepthDocument(_Document):
    """Depth along the camera's z axis. `png_scale` times a 16-bit PNG value is depth; the value 0 is no data."""

    min: float
    max: float
    png_scale: float
    links: DepthLinks


class PictureDocument(_Document):
    """One picture, in the order of the upload."""

    index: int
    filename: str
    original_size: Size
    network_size: Size
    transform: dict[str, Any]
    extrinsic: Matrix
    intrinsic: Matrix
    intrinsic_network: Matrix
    depth: DepthDocument


class Links(_Document):
    self: str
    points: str

    @classmethod
    def of(cls, prefix: str, own: str) -> Links:
        return cls(self=own, points=f"{prefix}points.ply")


class ReconstructionDocument(_Document):
    """The answer to POST /reconstruct. `timings` are seconds by stage."""

    id: str
    created: datetime
    mode: str
    model: ModelDocument
    world_frame: str
    conventions: str
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
            pictures.append(picture.model_copy(update={"depth": depth}))
        return self.model_copy(update={"links": Links.of(prefix, own), "pictures": pictures})


def describe(
    reconstruction: Reconstruction,
    *,
    id: str,
    created: datetime,
    mode: str,
    model: ModelDocument,
    timings: dict[str, float],
    filenames: list[str],
) -> ReconstructionDocument:
    """The document of a reconstruction, with relative links."""
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
            )
        )
    return ReconstructionDocument(
        id=id,
        created=created,
        mode=mode,
        model=model,
        world_frame=WORLD_FRAME,
        conventions=CONVENTIONS,
        timings=timings,
        pictures=pictures,
        links=Links.of("", "result.json"),
    )


def _size(size: tuple[int, int]) -> Size:
    return Size(height=size[0], width=size[1])
