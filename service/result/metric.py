"""A result in metres, once the length of something in it is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from service.result.document import (
    PictureDocument,
    ReconstructionDocument,
    ScaleDocument,
    world_frame,
)
from service.result.scene import Scene


def document_in_metres(document: ReconstructionDocument, factor: float) -> ReconstructionDocument:
    """The document with all lengths times `factor`, metres a unit of it is long."""
    scale = ScaleDocument(
        unit="metre", provenance="known distance", factor=document.scale.factor * factor
    )
    return document.model_copy(
        update={
            "scale": scale,
            "world_frame": world_frame(scale),
            "pictures": [_picture(picture, factor) for picture in document.pictures],
        }
    )


def scene_in_metres(scene: Scene, factor: float) -> Scene:
    """The scene with all lengths times `factor`."""
    sparse, dense = scene.sparse, scene.dense
    return replace(
        scene,
        document=document_in_metres(scene.document, factor),
        depth=np.asarray(scene.depth) * np.float32(factor),
        sparse=None if sparse is None else replace(sparse, xyz=np.asarray(sparse.xyz) * factor),
        dense=None
        if dense is None
        else tuple(
            replace(each, depth=np.asarray(each.depth) * np.float32(factor)) for each in dense
        ),
    )


def _picture(picture: PictureDocument, factor: float) -> PictureDocument:
    depth = picture.depth
    extrinsic = [[*row[:3], factor * row[3]] for row in picture.extrinsic]
    lengths = {name: factor * getattr(depth, name) for name in ("min", "max", "png_scale")}
    return picture.model_copy(
        update={"extrinsic": extrinsic, "depth": depth.model_copy(update=lengths)}
    )
