"""Every file that can be had of a reconstruction: its name, its media type, and how it is made.

A file is made at most once for the same options, then kept; making one never needs the network again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from service.errors import NotFound, NoTracks
from service.exports.cameras import cameras_json, tracks_json, trajectory_tum, transforms_json
from service.exports.colmap import write_colmap
from service.exports.depth import (
    confidence_picture,
    depth_picture,
    depth_png,
    map_npy,
    png,
    write_depth_exr,
)
from service.exports.gltf import write_glb
from service.exports.ply import write_ply
from service.exports.points import select_points
from service.inputs.options import Grid, PointOptions
from service.result.scene import Scene
from service.storage.folder import Export, Storage

GLTF = "model/gltf-binary"
BYTES = "application/octet-stream"
MapKind = Literal[
    "depth.png", "depth.npy", "depth.exr", "depth-preview.png", "confidence.npy", "confidence-preview.png"
]

_Cloudlike = Callable[[Scene, PointOptions, Path], None]
_STAMP = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class CloudFile:
    """A file that depends on which points are shown."""

    media_type: str
    write: _Cloudlike


@dataclass(frozen=True)
class PlainFile:
    """A file that depends on nothing but the scene."""

    media_type: str
    write: Callable[[Scene, Path], None]


def _text(make: Callable[[Scene], str]) -> Callable[[Scene, Path], None]:
    return lambda scene, path: _write(path, make(scene).encode())


def _json(make: Callable[[Scene], Any]) -> Callable[[Scene, Path], None]:
    return _text(lambda scene: json.dumps(make(scene), indent=1) + "\n")


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _write_npz(scene: Scene, path: Path) -> None:
    count = len(scene.document.pictures)
    arrays = {
        "extrinsics": scene.extrinsics(),
        "intrinsics": scene.intrinsics(),
        "filenames": np.array([picture.filename for picture in scene.document.pictures]),
        "world_points_network": scene.world_points(),
        "depth_network": scene.depth,
        "confidence_network": scene.confidence,
        "colors_network": scene.colors,
        "mask_network": np.asarray(scene.mask) & scene.keep,
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, array: Any) -> None:
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _STAMP), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)

        for name, array in arrays.items():
            add(name, array)
        for index in range(count):  # one at a time: originals may be large
            add(f"depth_{index}", scene.depth_map(index, "original"))
            add(f"confidence_{index}", scene.confidence_map(index, "original"))


CLOUD_FILES: dict[str, CloudFile] = {
    "points.ply": CloudFile(BYTES, lambda s, o, p: write_ply(select_points(s, o), p)),
    "points-ascii.ply": CloudFile(BYTES, lambda s, o, p: write_ply(select_points(s, o), p, ascii=True)),
    "scene.glb": CloudFile(GLTF, lambda s, o, p: write_glb(s, select_points(s, o), p)),
    "colmap.zip": CloudFile("application/zip", lambda s, o, p: write_colmap(s, select_points(s, o), p)),
    "colmap-text.zip": CloudFile("application/zip", lambda s, o, p: write_colmap(s, select_points(s, o), p, text=True)),
}
PLAIN_FILES: dict[str, PlainFile] = {
    "transforms.json": PlainFile("application/json", _json(transforms_json)),
    "trajectory.txt": PlainFile("text/plain", _text(trajectory_tum)),
    "cameras.json": PlainFile("application/json", _json(cameras_json)),
    "scene.npz": PlainFile(BYTES, _write_npz),
}
TRACKS_FILE = "tracks.json"
MANIFEST_FILE = "manifest.json"
ARCHIVE_FILE = "everything.zip"


class Catalogue:
    """Makes and finds files of the results in `storage`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def cloud_file(self, result: str, name: str, given: PointOptions) -> Export:
        """A file of `CLOUD_FILES` with the options `given`, and where not given those of the reconstruction."""
        document = self._storage.result(result)
        stored = {key: value for key, value in document.options.items() if key in PointOptions.model_fields}
        options = given.over(PointOptions.model_validate(stored))
        tag = hashlib.sha256(json.dumps(options.model_dump(), sort_keys=True).encode()).hexdigest()[:16]
        write = CLOUD_FILES[name].write
        return self._storage.export(
            result, f"{tag}-{name}", lambda path: write(self._storage.scene(result), options, path)
        )

    def plain_file(self, result: str, name: str) -> Export:
        """A file of `PLAIN_FILES`."""
        write = PLAIN_FILES[name].write
        return self._storage.export(result, name, lambda path: write(self._storage.scene(result), path))

    def tracks(self, result: str) -> Export:
        """The tracks of the query points. Raises NoTracks if none were asked for."""
        if self._storage.result(result).links.tracks is None:
            raise NoTracks("This reconstruction was made without query_points, so it has no tracks.")
        return self._storage.export(
            result, TRACKS_FILE, lambda path: _json(tracks_json)(self._storage.scene(result), path)
        )

    def picture(self, result: str, index: int) -> Export:
        """One picture as the network saw it, without padding, as PNG. Raises NotFound."""
        self._check_index(result, index)

        def make(path: Path) -> None:
            scene = self._storage.scene(result)
            rows, columns = np.nonzero(scene.mask[index].any(1))[0], np.nonzero(scene.mask[index].any(0))[0]
            content = scene.colors[index][rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            _write(path, png(Image.fromarray(np.ascontiguousarray(content))))

        return self._storage.export(result, f"picture-{index}.png", make)

    def map_file(self, result: str, kind: MapKind, index: int, grid: Grid) -> Export:
        """One picture's depth or confidence. Raises NotFound."""
        self._check_index(result, index)
        return self._storage.export(
            result, f"{index}-{grid}-{kind}", lambda path: self._write_map(result, kind, index, grid, path)
        )

    def _write_map(self, result: str, kind: MapKind, index: int, grid: Grid, path: Path) -> None:
        scene = self._storage.scene(result)
        if kind.startswith("confidence"):
            confidence = scene.confidence_map(index, grid)
            _write(path, map_npy(confidence) if kind == "confidence.npy" else png(confidence_picture(confidence)))
            return
        depth = scene.depth_map(index, grid)
        if kind == "depth.exr":
            write_depth_exr(depth, path)
        elif kind == "depth.npy":
            _write(path, map_npy(depth))
        elif kind == "depth.png":
            _write(path, depth_png(depth, scene.document.pictures[index].depth.png_scale))
        else:
            _write(path, png(depth_picture(depth)))

    def manifest(self, result: str) -> Export:
        """What made the result, and size and SHA-256 of every file with the reconstruction's own options."""

        def make(path: Path) -> None:
            document = self._storage.result(result)
            files = {
                name: {"bytes": export.bytes, "sha256": export.sha256} for name, export in self._everything(result)
            }
            told = document.model_dump(mode="json", exclude={"pictures", "links", "state", "progress"})
            _write(path, (json.dumps({**told, "files": files}, indent=1) + "\n").encode())

        return self._storage.export(result, MANIFEST_FILE, make)

    def archive(self, result: str) -> Export:
        """All files of the manifest, the manifest and ``result.json`` in one zip archive."""

        def make(path: Path) -> None:
            document = self._storage.result(result).in_folder()
            with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
                _add(archive, document.links.self, (document.model_dump_json(indent=1) + "\n").encode())
                for name, export in (*self._everything(result), (MANIFEST_FILE, self.manifest(result))):
                    entry = archive.open(zipfile.ZipInfo(name, _STAMP), "w", force_zip64=True)
                    with entry, export.path.open("rb") as source:
                        shutil.copyfileobj(source, entry)

        return self._storage.export(result, ARCHIVE_FILE, make)

    def _everything(self, result: str) -> Iterator[tuple[str, Export]]:
        document = self._storage.result(result)
        for name in CLOUD_FILES:
            yield name, self.cloud_file(result, name, PointOptions())
        for name in PLAIN_FILES:
            yield name, self.plain_file(result, name)
        if document.links.tracks is not None:
            yield TRACKS_FILE, self.tracks(result)
        for picture in document.in_folder().pictures:
            depth, links = picture.depth.links, picture.links
            for name, kind in (
                (depth.png, "depth.png"), (depth.npy, "depth.npy"), (depth.exr, "depth.exr"),
                (depth.preview, "depth-preview.png"), (links.confidence, "confidence.npy"),
                (links.confidence_preview, "confidence-preview.png"),
            ):  # fmt: skip
                yield name, self.map_file(result, kind, picture.index, "original")  # type: ignore[arg-type]
            yield links.picture, self.picture(result, picture.index)

    def _check_index(self, result: str, index: int) -> None:
        last = len(self._storage.result(result).pictures) - 1
        if not 0 <= index <= last:
            raise NotFound(f"This reconstruction has pictures 0 to {last}; {index} was asked for.")


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _STAMP), content)
