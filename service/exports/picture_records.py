"""The files that are made of one picture each."""

from __future__ import annotations

from typing import Any

import numpy as np

from service.exports.depth import (
    confidence_picture,
    depth_levels,
    depth_picture,
    network_picture,
    source_picture,
    write_depth_exr,
    write_npy,
    write_png,
)
from service.exports.export import Export, Need, Source
from service.exports.media_types import BYTES, EXR, JPEG, PNG
from service.exports.options import (
    DepthOptions,
    ExportOptions,
    MapOptions,
    MapPreviewOptions,
    PicturePreviewOptions,
)
from service.exports.previews import write_picture_preview
from service.result.document import PictureDocument


def _depth(source: Source[MapOptions]) -> Any:
    longest = getattr(source.options, "max_side", None)
    depth = source.scene.depth_map(source.index, source.options.grid, longest)
    factor = getattr(source.options, "metres_per_unit", None)
    return depth if factor is None else depth * np.float32(factor)


def _confidence(source: Source[MapOptions]) -> Any:
    longest = getattr(source.options, "max_side", None)
    return source.scene.confidence_map(source.index, source.options.grid, longest)


def _depth_scale(picture: PictureDocument) -> dict[str, str]:
    return {"X-Depth-Scale": repr(picture.depth.png_scale)}


PICTURE_EXPORTS: tuple[Export[Any], ...] = (
    Export(
        name="depth/{index}.png",
        link="png",
        of="depth",
        media_type=PNG,
        summary="Depth, 16 bits; times X-Depth-Scale",
        options=DepthOptions,
        write=lambda source, path: write_png(
            depth_levels(_depth(source), source.document.pictures[source.index].depth.png_scale),
            path,
        ),
        saved_as="depth-{index}.png",
        headers=_depth_scale,
        formats={"depth": "png"},
        label="PNG",
    ),
    Export(
        name="depth/{index}.npy",
        link="npy",
        of="depth",
        media_type=BYTES,
        summary="Depth, float32, NaN for no data",
        options=DepthOptions,
        write=lambda source, path: write_npy(_depth(source), path),
        saved_as="depth-{index}.npy",
        formats={"depth": "npy"},
        label="NPY",
    ),
    Export(
        name="depth/{index}.exr",
        link="exr",
        of="depth",
        media_type=EXR,
        summary="Depth, OpenEXR channel Z",
        options=DepthOptions,
        write=lambda source, path: write_depth_exr(_depth(source), path),
        saved_as="depth-{index}.exr",
        formats={"depth": "exr"},
        label="EXR",
    ),
    Export(
        name="depth/{index}.source.png",
        link="source",
        of="depth",
        media_type=PNG,
        summary="Where depth comes from: 0 nowhere, 127 the network, 255 several pictures",
        options=ExportOptions,
        write=lambda source, path: write_png(
            source_picture(source.scene.source_map(source.index)), path
        ),
        grid="original",
        saved_as="depth-{index}-source.png",
        needs=Need.DENSE,
        formats={"depth": "source"},
        label="source of depth",
        shown=True,
    ),
    Export(
        name="pictures/{index}.png",
        link="picture",
        of="picture",
        media_type=PNG,
        summary="What the network saw",
        options=ExportOptions,
        write=lambda source, path: write_png(network_picture(source.scene, source.index), path),
        saved_as="picture-{index}.png",
        label="as the network saw it",
    ),
    Export(
        name="pictures/{index}/preview.jpg",
        link="preview",
        of="picture",
        media_type=JPEG,
        summary="The picture, at most 1024 pixels a side",
        options=PicturePreviewOptions,
        write=lambda source, path: write_picture_preview(
            source.scene, source.index, source.options.max_side, path
        ),
        grid="original",
        saved_as="picture-{index}-preview.jpg",
        archived=False,
        label="picture",
        shown=True,
    ),
    Export(
        name="depth/{index}/preview.png",
        link="preview",
        of="depth",
        media_type=PNG,
        summary="Depth in colours",
        options=MapPreviewOptions,
        write=lambda source, path: write_png(depth_picture(_depth(source)), path),
        saved_as="depth-{index}-preview.png",
        formats={"depth": "preview"},
        label="depth",
        shown=True,
    ),
    Export(
        name="confidence/{index}.npy",
        link="confidence",
        of="picture",
        media_type=BYTES,
        summary="Confidence, float32, at least 1",
        options=MapOptions,
        write=lambda source, path: write_npy(_confidence(source), path),
        saved_as="confidence-{index}.npy",
        formats={"confidence": "npy"},
    ),
    Export(
        name="confidence/{index}/preview.png",
        link="confidence_preview",
        of="picture",
        media_type=PNG,
        summary="Confidence in colours",
        options=MapPreviewOptions,
        write=lambda source, path: write_png(confidence_picture(_confidence(source)), path),
        saved_as="confidence-{index}-preview.png",
        formats={"confidence": "preview"},
        label="confidence",
        shown=True,
    ),
)
