"""Finished passes of a scene that takes several, on disk: memory holds one of them, and a job that
was killed goes on behind the last one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

import torch
from numpy.typing import NDArray
from torch import Tensor

from model.scene.geometry import unproject_depth
from model.scene.preprocess import PreprocessedImages
from model.scene.reconstruction import Reconstruction, colors_of
from service.inference.network_pass import Pass, Tracks
from service.result.array_file import map_arrays, write_arrays

_PREFIX = "chunk-"

Take = Callable[[Sequence[int]], PreprocessedImages]
"""Gives the network's input for some frames of a scene."""


class FinishedChunks(Sequence[Reconstruction]):
    """What the network said of each chunk of a scene, read from disk whenever it is asked for.

    A chunk is found again only if everything is the same that decides its content: `identity` and
    the chunks themselves.
    """

    def __init__(self, folder: Path, chunks: Sequence[range], take: Take, identity: object) -> None:
        """`folder` is that of the job's input; what other plans have left there is removed."""
        text = json.dumps([identity, [[chunk.start, chunk.stop] for chunk in chunks]])
        self._folder = folder
        self._prefix = f"{_PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:16]}-"
        for other in folder.glob(f"{_PREFIX}*"):
            if not other.name.startswith(self._prefix):
                other.unlink()
        self._chunks = chunks
        self._take = take
        self.watch: Callable[[], None] = lambda: None
        """Called whenever a chunk is read; what it raises ends that."""

    def keep(self, number: int, done: Pass) -> Path:
        """Put a pass on the disk; returns its file. Raises OSError."""
        scene = done.reconstruction
        tensors: dict[str, Tensor | None] = {
            "extrinsics": scene.extrinsics,
            "intrinsics": scene.intrinsics,
            "depth": scene.depth,
            "confidence": scene.depth_conf,
            "descriptors": done.descriptors,
        }
        if done.tracks is not None:
            tensors["track_points"] = done.tracks.points
            tensors["track_visibility"] = done.tracks.visibility
            tensors["track_confidence"] = done.tracks.confidence
        arrays = {name: each.numpy() for name, each in tensors.items() if each is not None}
        path = self._path(number)
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        facts = json.dumps({"seconds": done.seconds, "peak_bytes": done.peak_bytes})
        write_arrays(partial, arrays, {"pass": facts})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        return partial.rename(path)

    def find(self, number: int) -> Pass | None:
        """A pass that was finished, perhaps by an earlier attempt; None if it was not, or is not
        whole."""
        try:
            arrays, metadata = map_arrays(self._path(number))
            return self._read(number, arrays, json.loads(metadata["pass"]))
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            return None

    def __len__(self) -> int:
        return len(self._chunks)

    @overload
    def __getitem__(self, index: int) -> Reconstruction: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Reconstruction]: ...
    def __getitem__(self, index: int | slice) -> Reconstruction | Sequence[Reconstruction]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        self.watch()
        arrays, metadata = map_arrays(self._path(index))
        return self._read(index, arrays, json.loads(metadata["pass"])).reconstruction

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._prefix}{number:04d}.safetensors"

    def _read(self, number: int, arrays: dict[str, NDArray[Any]], facts: dict[str, Any]) -> Pass:
        frames = self._chunks[number]
        batch = self._take(frames)
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        extrinsics, intrinsics, depth = (
            tensors[name] for name in ("extrinsics", "intrinsics", "depth")
        )
        if depth.shape != (len(frames), *batch.images.shape[-2:]):
            raise ValueError(f"a chunk of {len(frames)} frames has depth {list(depth.shape)}")
        original = [
            transform.intrinsics_to_original(matrix)
            for transform, matrix in zip(batch.transforms, intrinsics, strict=True)
        ]
        scene = Reconstruction(
            extrinsics=extrinsics,
            intrinsics=intrinsics,
            original_intrinsics=torch.stack(original),
            depth=depth,
            depth_conf=tensors["confidence"],
            world_points=unproject_depth(depth, extrinsics, intrinsics),
            colors=colors_of(batch.images),
            mask=torch.stack([transform.content_mask() for transform in batch.transforms]),
            transforms=batch.transforms,
        )
        tracks = None
        if "track_points" in tensors:
            tracks = Tracks(
                tensors["track_points"],
                tensors["track_visibility"],
                tensors.get("track_confidence"),
            )
        return Pass(
            scene, tensors.get("descriptors"), tracks, facts["seconds"], facts["peak_bytes"]
        )
