"""What the refinement's own process gives back: one file of numbers and text.

That process decodes pictures that anybody may have sent. So its answer is read as data that may be
forged: safetensors with a JSON document, no code, every size and value checked.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from refinement.photograph import Photograph
from refinement.result import (
    VERIFIED,
    DenseMap,
    Method,
    Reason,
    RefinedPicture,
    Refinement,
    Source,
    SparsePoints,
)

_FILE = "answer.safetensors"
_DOCUMENT = "answer"
_TEXT_LENGTH = 2000
_MOST_NOTES = 100
_SPARSE: dict[str, tuple[type, tuple[int, ...]]] = {  # type and shape of one row
    "xyz": (np.float64, (3,)),
    "rgb": (np.uint8, (3,)),
    "error": (np.float64, ()),
    "start": (np.int64, ()),
    "picture": (np.int64, ()),
    "pixel": (np.float64, (2,)),
}

_DAMAGED = (  # what a file raises that was not written by `write_answer`
    SafetensorError, OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError,
    RecursionError,
)  # fmt: skip

Arrays = dict[str, NDArray[Any]]


class AnswerError(ValueError):
    """The answer is none of `write_answer`."""


def write_answer(answer: Refinement, folder: Path) -> None:
    """Replaces the answer in one step: whoever is killed leaves the one before."""
    pictures = answer.pictures
    arrays: Arrays = {
        "extrinsics": np.stack([picture.extrinsic for picture in pictures]),
        "lenses": np.array([(each.focal, each.cx, each.cy, each.distortion) for each in pictures]),
    }
    if answer.sparse is not None:
        arrays |= {f"sparse.{name}": getattr(answer.sparse, name) for name in _SPARSE}
    for index, dense in enumerate(answer.dense or ()):
        arrays |= {f"depth.{index}": dense.depth, f"source.{index}": dense.source}
    document = {
        "method": answer.method,
        "support": answer.support,
        "network_support": answer.network_support,
        "reason": _words(answer.reason),
        "dense_reason": _words(answer.dense_reason),
        "notes": [_words(note) for note in answer.notes],
        "seconds": dict(answer.seconds),
        "pictures": [
            [each.source, each.share, each.observations, each.ray_angle, each.depth_fit]
            for each in pictures
        ],
    }
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    new = folder / f"{_FILE}.new"
    new.write_bytes(save(contiguous, {_DOCUMENT: json.dumps(document)}))
    os.replace(new, folder / _FILE)


def read_answer(
    folder: Path, photographs: Sequence[Photograph], most_bytes: int
) -> Refinement | None:
    """The last answer about `photographs` that was written, None if there is none. Raises
    AnswerError for one that is larger than `most_bytes` or not what `write_answer` writes."""
    path = folder / _FILE
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_size > most_bytes:
        raise AnswerError(f"it is no file of at most {most_bytes} bytes")
    try:
        with safe_open(path, framework="np") as file:
            document = json.loads((file.metadata() or {}).get(_DOCUMENT, "null"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _refinement(document, arrays, photographs)
    except AnswerError:
        raise
    except _DAMAGED as error:
        raise AnswerError(f"{type(error).__name__}: {str(error)[:200]}") from None


def _refinement(document: Any, arrays: Arrays, photographs: Sequence[Photograph]) -> Refinement:
    count = len(photographs)
    extrinsics = _finite(arrays, "extrinsics", np.float64, (count, 3, 4))
    lenses = _finite(arrays, "lenses", np.float64, (count, 4))
    _expect((lenses[:, 0] > 0).all(), "every focal length is more than 0")
    _expect(len(document["pictures"]) == count, f"there are {count} pictures")
    pictures = []
    for index, (source, share, observations, angle, fit) in enumerate(document["pictures"]):
        focal, cx, cy, distortion = map(float, lenses[index])
        pictures.append(
            RefinedPicture(
                _one_of(source, Source), extrinsics[index], focal, cx, cy, distortion,
                _number(share), int(observations), _number(angle),
                None if fit is None else (_given(fit[0]), _given(fit[1])),
            )
        )  # fmt: skip
    notes = [_reason(note) for note in document["notes"][:_MOST_NOTES]]
    return Refinement(
        pictures=tuple(pictures),
        method=_one_of(document["method"], Method),
        support=_number(document["support"]),
        network_support=_number(document["network_support"]),
        reason=_reason(document["reason"]),
        sparse=_sparse(arrays, count) if "sparse.xyz" in arrays else None,
        dense=_dense(arrays, photographs) if "depth.0" in arrays else None,
        dense_reason=_reason(document["dense_reason"]),
        notes=tuple(note for note in notes if note is not None),
        seconds={str(name)[:_TEXT_LENGTH]: _given(s) for name, s in document["seconds"].items()},
    )


def _sparse(arrays: Arrays, pictures: int) -> SparsePoints:
    points = len(arrays["sparse.xyz"])
    observed = len(arrays["sparse.pixel"])
    rows = {"start": points + 1, "picture": observed, "pixel": observed}
    found = {
        name: _finite(arrays, f"sparse.{name}", kind, (rows.get(name, points), *row))
        for name, (kind, row) in _SPARSE.items()
    }
    start, picture = found["start"], found["picture"]
    whole = start[0] == 0 and start[-1] == observed and (np.diff(start) >= 0).all()
    _expect(whole, "the observations of every point follow those of the one before")
    _expect(((picture >= 0) & (picture < pictures)).all(), "every observation is in a picture")
    return SparsePoints(**found)


def _dense(arrays: Arrays, photographs: Sequence[Photograph]) -> tuple[DenseMap, ...]:
    maps = []
    for index, photograph in enumerate(photographs):
        depth, source = arrays[f"depth.{index}"], arrays[f"source.{index}"]
        _expect(
            depth.dtype == np.float32 and source.dtype == np.uint8 and depth.ndim == 2
            and depth.shape == source.shape and 0 < depth.shape[0] <= photograph.height
            and 0 < depth.shape[1] <= photograph.width,
            f"depth map {index} lies on the picture's grid or a smaller one",
        )  # fmt: skip
        _expect((source <= VERIFIED).all(), "every pixel's depth has a source")
        maps.append(DenseMap(depth, source))
    return tuple(maps)


def _finite(arrays: Arrays, name: str, kind: type, shape: tuple[int, ...]) -> NDArray[Any]:
    array = arrays[name]
    _expect(
        array.dtype == kind and array.shape == shape and bool(np.isfinite(array).all()),
        f"{name} is {np.dtype(kind)} of the shape {shape} and finite",
    )
    return array


def _expect(holds: Any, what: str) -> None:
    if not holds:
        raise AnswerError(f"expected that {what}")


def _one_of(value: Any, choices: Any) -> Any:
    _expect(value in get_args(choices), f"{str(value)[:40]!r} is one of {get_args(choices)}")
    return value


def _number(value: Any) -> float | None:
    return None if value is None else _given(value)


def _given(value: Any) -> float:
    number = float(value)
    _expect(math.isfinite(number), "every number is finite")
    return number


def _words(reason: Reason | None) -> list[str] | None:
    return None if reason is None else [reason.code, reason.message]


def _reason(words: Any) -> Reason | None:
    if words is None:
        return None
    code, message = words
    return Reason(str(code)[:_TEXT_LENGTH], str(message)[:_TEXT_LENGTH])
