"""All of a scene as one NumPy archive."""

from __future__ import annotations

import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from service.exports.archive import STAMP
from service.exports.names import exported_names
from service.result.scene import Scene


def write_npz(scene: Scene, path: Path) -> None:
    """Cameras, names, the maps on the network's grid and on each picture's own, and triangulated
    points."""
    pictures = scene.document.pictures
    arrays = {
        "extrinsics": scene.extrinsics(),
        "intrinsics": scene.intrinsics(),
        "distortions": np.array([picture.distortion for picture in pictures]),
        "filenames": np.array(exported_names(scene)),
        "world_points_network": scene.world_points(),
        "depth_network": scene.depth,
        "confidence_network": scene.confidence,
        "colors_network": scene.colors,
        "mask_network": np.asarray(scene.mask) & scene.keep,
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, array: Any) -> None:
            with archive.open(zipfile.ZipInfo(f"{name}.npy", STAMP), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)

        for name, array in arrays.items():
            add(name, array)
        if scene.sparse is not None:
            for field in fields(scene.sparse):
                add(f"sparse_{field.name}", getattr(scene.sparse, field.name))
        for index in range(len(pictures)):  # one at a time: originals may be large
            add(f"depth_{index}", scene.depth_map(index, "original"))
            add(f"confidence_{index}", scene.confidence_map(index, "original"))
            if scene.dense is not None:
                add(f"source_{index}", scene.source_map(index))
