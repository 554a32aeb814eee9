"""What travels between the service and a replica of the network: arrays and plain data.

Problems travel as their documents: an exception that was pickled at one end need not come to life at the other. What
arrives lies read-only in memory that processes share, so tensors are made of copies, and the memory is given back.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.preprocess import ImageTransform, PreprocessedImages
from model.reconstruction import Reconstruction
from service.inference.engine import Pass, Tracks

Arrays = dict[str, NDArray[Any] | None]


@dataclass(frozen=True)
class Order:
    """One pass to run.

    `pixels` [N,3,H,W] is uint8 where the network's input is whole 255ths, as it is unless it was shrunk, else float32
    in [0, 1]; `query_points` is [N,2], network pixels of the first picture.
    """

    pixels: NDArray[Any]
    transforms: tuple[ImageTransform, ...]
    query_points: NDArray[Any] | None

    @classmethod
    def of(cls, batch: PreprocessedImages, query_points: Tensor | None) -> Order:
        pixels = (batch.images * 255).round().to(torch.uint8)
        if not torch.equal(pixels.float() / 255, batch.images):
            pixels = batch.images
        return cls(pixels.numpy(), batch.transforms, None if query_points is None else query_points.numpy())

    def batch(self) -> PreprocessedImages:
        """The input again, bit for bit."""
        pixels = _tensor(self.pixels)
        images = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        return PreprocessedImages(images, self.transforms)

    def queries(self) -> Tensor | None:
        return None if self.query_points is None else _tensor(self.query_points)


@dataclass(frozen=True)
class Progress:
    """The pass has got so far; see `model.observation.Observer`."""

    stage: str
    share: float


@dataclass(frozen=True)
class Refused:
    """The pass ended with the problem of this document."""

    problem: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """The pass is done; the fields are those of `Pass`, without the transforms, which the sender of the order has."""

    reconstruction: Arrays
    descriptors: NDArray[Any]
    tracks: Arrays | None
    seconds: dict[str, float]
    peak_bytes: int

    @classmethod
    def of(cls, done: Pass) -> Done:
        return cls(
            reconstruction=_arrays(done.reconstruction),
            descriptors=done.descriptors.numpy(),
            tracks=None if done.tracks is None else _arrays(done.tracks),
            seconds=done.seconds,
            peak_bytes=done.peak_bytes,
        )

    def to_pass(self, transforms: tuple[ImageTransform, ...]) -> Pass:
        return Pass(
            reconstruction=Reconstruction(**_tensors(self.reconstruction), transforms=transforms),
            descriptors=_tensor(self.descriptors),
            tracks=None if self.tracks is None else Tracks(**_tensors(self.tracks)),
            seconds=self.seconds,
            peak_bytes=self.peak_bytes,
        )


@dataclass(frozen=True)
class Description:
    """A replica in its own words.

    `model` is a ModelDocument, `budget` what a pass may take in bytes, `calibration` what its cost model learnt at the
    start.
    """

    digest: str
    model: dict[str, Any]
    budget: int | None
    calibration: tuple[tuple[float, float, float], ...]


def _arrays(item: Reconstruction | Tracks) -> Arrays:
    """The tensors of `item` by the names of their fields, None where a field is None."""
    values = {field.name: getattr(item, field.name) for field in fields(item)}
    return {
        name: None if value is None else np.ascontiguousarray(value.numpy())
        for name, value in values.items()
        if value is None or isinstance(value, Tensor)
    }


def _tensors(arrays: Arrays) -> dict[str, Any]:
    return {name: None if array is None else _tensor(array) for name, array in arrays.items()}


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array.copy())
