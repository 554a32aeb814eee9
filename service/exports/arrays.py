"""All of a scene as one NumPy archive."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

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
    }
    maps: dict[str, Callable[[int], NDArray[Any]]] = {
        "world_points_network": scene.world_points,
        "depth_network": lambda index: scene.depth[index],
        "confidence_network": lambda index: scene.confidence[index],
        "colors_network": lambda index: scene.colors[index],
        "mask_network": lambda index: np.asarray(scene.mask[index]) & scene.keep[index],
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

        def opened(name: str) -> IO[bytes]:
            return archive.open(zipfile.ZipInfo(f"{name}.npy", STAMP), "w", force_zip64=True)

        def add(name: str, array: Any) -> None:
            with opened(name) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)

        for name, array in arrays.items():
            add(name, array)
        for name, map_of in maps.items():  # a long scene has more maps than memory holds
            with opened(name) as file:
                for index in range(len(pictures)):
                    values = np.ascontiguousarray(map_of(index))
                    if index == 0:
                        np.lib.format.write_array_header_1_0(file, _header(values, len(pictures)))
                    file.write(values.data)
        if scene.sparse is not None:
            for field in fields(scene.sparse):
                add(f"sparse_{field.name}", getattr(scene.sparse, field.name))
        for index in range(len(pictures)):  # one at a time: originals may be large
            add(f"depth_{index}", scene.depth_map(index, "original"))
            add(f"confidence_{index}", scene.confidence_map(index, "original"))
            if scene.dense is not None:
                add(f"source_{index}", scene.source_map(index))


def _header(first: NDArray[Any], count: int) -> dict[str, Any]:
    """Of a NumPy file with `count` arrays like `first` one after another."""
    kind = np.lib.format.dtype_to_descr(first.dtype)
    return {"descr": kind, "fortran_order": False, "shape": (count, *first.shape)}
