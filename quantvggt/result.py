"""A reconstruction as a folder of files, read as arrays when they are asked for."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from quantvggt.errors import BadInputError
from quantvggt.files import DOCUMENT
from quantvggt.folder import replacing, try_folder

_TYPES = {"float": "<f4", "uchar": "u1"}  # of PLY


@dataclass(frozen=True)
class Camera:
    """One picture's camera. Pixels are those of the picture after EXIF rotation, with edges at
    integers."""

    filename: str
    width: int
    height: int
    extrinsic: NDArray[np.float64]
    """World-to-camera [R|t], [3, 4], OpenCV axes: x right, y down, z forward."""
    intrinsic: NDArray[np.float64]
    """[3, 3], in pixels."""
    distortion: float = 0.0
    """k1 of COLMAP's SIMPLE_RADIAL model."""
    source: str = "network"
    """"refined" on the original pixels, or the "network"'s."""
    share: float | None = None
    """Of the picture's verified matches with others, those that the cameras satisfy; None if not
    known."""


class Result:
    """What `Client.reconstruct` gives, or the folder that `quantvggt reconstruct` wrote. The order
    is the pictures'.

    `document` is what ``result.json`` holds: sizes, scale, model, timings, options, and warnings
    where there are any.
    """

    def __init__(self, folder: str | Path, *, temporary: bool = False) -> None:
        """Raises BadInputError if there is no result in `folder`, which goes with the object if it
        is `temporary`."""
        self.folder = Path(folder)
        try:
            self.document: dict[str, Any] = json.loads((self.folder / DOCUMENT).read_text("utf-8"))
        except FileNotFoundError:
            raise BadInputError(f"{self.folder} holds no result: there is no {DOCUMENT}.") from None
        except ValueError as error:
            raise BadInputError(f"{self.folder / DOCUMENT} is damaged: {error}.") from None
        if temporary:
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    @property
    def id(self) -> str:
        """Its name at the service."""
        return str(self.document["id"])

    @property
    def refinement(self) -> dict[str, Any] | None:
        """What was refined on the original pixels, and why not more: `kept`, `support`, `reason`
        and so on, as in the document. None if it was not asked for."""
        found: dict[str, Any] | None = self.document.get("refinement")
        return found

    @cached_property
    def cameras(self) -> list[Camera]:
        """The camera of every picture."""
        return [
            Camera(
                picture["filename"],
                picture["original_size"]["width"],
                picture["original_size"]["height"],
                np.array(picture["extrinsic"], np.float64),
                np.array(picture["intrinsic"], np.float64),
                # services of an earlier version don't refine
                picture.get("distortion", 0.0),
                picture.get("source", "network"),
                picture.get("share"),
            )
            for picture in self.document["pictures"]
        ]

    @property
    def depth(self) -> Sequence[NDArray[np.float32]]:
        """Depth of every picture, [height, width], along the camera's z axis, in the scene's unit;
        NaN = no data."""
        return _Maps(
            self,
            [self._file(f"depth/{index}.npy") for index in range(len(self.document["pictures"]))],
        )

    @property
    def points(self) -> NDArray[np.float32]:
        """The point cloud, [N, 3], in the world of the cameras."""
        return self._cloud["position"]

    @property
    def colors(self) -> NDArray[np.uint8]:
        """The points' colours, [N, 3], sRGB."""
        return self._cloud["color"]

    @property
    def confidence(self) -> NDArray[np.float32]:
        """The network's confidence in each point, [N], at least 1."""
        return self._cloud["confidence"]

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Copy all files to `folder`. Raises BadInputError if it holds another result, unless
        `overwrite`."""
        try_folder(Path(folder), overwrite)
        with replacing(Path(folder)) as staging:
            shutil.copytree(self.folder, staging, dirs_exist_ok=True)

    @cached_property
    def _cloud(self) -> dict[str, NDArray[Any]]:
        vertices = read_vertices(self._file("points.ply"))
        return {
            "position": np.stack([vertices[axis] for axis in "xyz"], axis=1),
            "color": np.stack([vertices[channel] for channel in ("red", "green", "blue")], axis=1),
            "confidence": np.ascontiguousarray(vertices["confidence"]),
        }

    def _file(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            raise BadInputError(
                f"{name} is not among the files of this result; name it in outputs."
            )
        return path


class _Maps(Sequence[NDArray[np.float32]]):
    """Arrays that are read from their files one at a time: those of many pictures may not fit into
    memory."""

    def __init__(self, result: Result, paths: list[Path]) -> None:
        self._result, self._paths = result, paths  # as long as there are maps, their files stay

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.float32]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[NDArray[np.float32]]: ...

    def __getitem__(
        self, index: int | slice
    ) -> NDArray[np.float32] | Sequence[NDArray[np.float32]]:
        if isinstance(index, slice):
            return _Maps(self._result, self._paths[index])
        found: NDArray[np.float32] = np.load(self._paths[index], allow_pickle=False)
        return found


def read_vertices(path: Path) -> NDArray[Any]:
    """Vertices of a binary PLY file as the service writes them, one record each, fields by the
    properties' names."""
    with path.open("rb") as file:
        properties = []
        while (line := file.readline().decode("ascii").strip()) != "end_header":
            words = line.split()
            if words[:1] == ["property"]:
                properties.append((words[2], _TYPES[words[1]]))
            elif not line:
                raise BadInputError(f"{path} is no PLY file with a header.")
        return np.frombuffer(file.read(), np.dtype(properties))
