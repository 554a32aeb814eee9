"""What travels between the service and a replica of the network: arrays and plain data.

Errors travel as their records: an exception that was pickled at one end need not come to life at
the other. What arrives lies read-only in memory that processes share, so tensors are made of
copies, and the memory is given back.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.reconstruct import Cameras
from model.scene.preprocess import ImageTransform, PreprocessedImages
from model.scene.reconstruction import Reconstruction
from service.inference.network_pass import Pass, Tracks


@dataclass(frozen=True)
class Order:
    """One pass to run.

    `pixels` [N,3,H,W] is uint8 where the network's input is whole 255ths, as it is unless it was
    shrunk, else float32 in [0, 1]; `query_points` is [N,2], network pixels of the first picture;
    `describe` asks for descriptors; `attention_keys` and `cameras` are those of `Engine.infer`.
    """

    pixels: NDArray[Any]
    transforms: tuple[ImageTransform, ...]
    query_points: NDArray[Any] | None
    describe: bool
    attention_keys: int | None = None
    cameras: tuple[NDArray[Any], NDArray[Any]] | None = None

    @classmethod
    def of(
        cls,
        batch: PreprocessedImages,
        query_points: Tensor | None,
        describe: bool = False,
        attention_keys: int | None = None,
        cameras: Cameras | None = None,
    ) -> Order:
        pixels = (batch.images * 255).round().to(torch.uint8)
        if not torch.equal(pixels.float() / 255, batch.images):
            pixels = batch.images
        queries = None if query_points is None else query_points.numpy()
        known = None if cameras is None else (cameras[0].numpy(), cameras[1].numpy())
        return cls(pixels.numpy(), batch.transforms, queries, describe, attention_keys, known)

    def batch(self) -> PreprocessedImages:
        """The input again, bit for bit."""
        pixels = _tensor(self.pixels)
        images = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        return PreprocessedImages(images, self.transforms)

    def queries(self) -> Tensor | None:
        return None if self.query_points is None else _tensor(self.query_points)

    def known_cameras(self) -> Cameras | None:
        if self.cameras is None:
            return None
        return _tensor(self.cameras[0]), _tensor(self.cameras[1])


@dataclass(frozen=True)
class Progress:
    """The pass has got so far; see `model.network.observation.Observer`."""

    stage: str
    share: float


@dataclass(frozen=True)
class Refused:
    """The pass ended with the error of this record."""

    error: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """The pass is done; the fields are those of `Pass`, without the transforms, which the sender of
    the order has."""

    scene: dict[str, NDArray[Any]]
    descriptors: NDArray[Any] | None
    tracks: dict[str, NDArray[Any]] | None
    seconds: dict[str, float]
    peak_bytes: int

    @classmethod
    def of(cls, done: Pass) -> Done:
        tracks = None if done.tracks is None else _arrays(done.tracks)
        descriptors = None if done.descriptors is None else done.descriptors.numpy()
        return cls(_arrays(done.reconstruction), descriptors, tracks, done.seconds, done.peak_bytes)

    def to_pass(self, transforms: tuple[ImageTransform, ...]) -> Pass:
        scene = Reconstruction(
            **{name: _tensor(array) for name, array in self.scene.items()}, transforms=transforms
        )
        tracks = (
            None
            if self.tracks is None
            else Tracks(**{name: _tensor(a) for name, a in self.tracks.items()})
        )
        descriptors = None if self.descriptors is None else _tensor(self.descriptors)
        return Pass(scene, descriptors, tracks, self.seconds, self.peak_bytes)


@dataclass(frozen=True)
class Description:
    """A replica in its own words.

    `model` is a ModelDocument, `budget` what a pass may take in bytes, `calibration` what its cost
    model learnt at the start.
    """

    digest: str
    model: dict[str, Any]
    budget: int | None
    calibration: tuple[tuple[float, float, float], ...]


def _arrays(item: Reconstruction | Tracks) -> dict[str, NDArray[Any]]:
    values = {field.name: getattr(item, field.name) for field in fields(item)}
    return {
        name: np.ascontiguousarray(value.numpy())
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array.copy())
