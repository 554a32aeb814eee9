"""Matching by the compiled library (`native/`). Structures mirror `native/interface.h`."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_float, c_int32, c_uint32, c_void_p
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refinement.dense.problem import Geometry, Problem
from refinement.dense.views import Floats, View

MOST_SOURCES = 8
MOST_SAMPLES = 64


class _View(Structure):
    _fields_ = (
        ("quads", c_void_p),
        ("ray_x", c_void_p),
        ("ray_y", c_void_p),
        ("inverse_depth", c_void_p),
        ("height", c_int32),
        ("width", c_int32),
        ("focal_x", c_float),
        ("focal_y", c_float),
        ("cx", c_float),
        ("cy", c_float),
        ("distortion", c_float),
    )


class _Source(Structure):
    _fields_ = (("view", _View), ("rotation", c_float * 9), ("translation", c_float * 3))


class _Problem(Structure):
    _fields_ = (
        ("reference", _View),
        ("sources", _Source * MOST_SOURCES),
        ("source_count", c_int32),
        ("sample_count", c_int32),
        ("radius", c_int32),
        ("offset_x", c_float * MOST_SAMPLES),
        ("offset_y", c_float * MOST_SAMPLES),
        ("spatial_weight", c_float * MOST_SAMPLES),
        ("grey_weight", c_float * 256),
        ("grey_noise", c_float),
        ("least_inverse", c_float),
        ("most_inverse", c_float),
        ("geometry_weight", c_float),
        ("geometry_limit", c_float),
        ("seed", c_uint32),
        ("wild", c_int32),
        ("planes", c_void_p),
        ("cost", c_void_p),
    )


_ENTRIES = {
    "dense_score": (POINTER(_Problem), c_void_p, c_int32),
    "dense_rate": (POINTER(_Problem), c_int32),
    "dense_improve": (POINTER(_Problem), c_int32, c_int32, c_int32),
}


@cache
def loaded(library: Path) -> ctypes.CDLL:
    """Raises OSError where it does not load."""
    functions = ctypes.CDLL(str(library))
    for name, arguments in _ENTRIES.items():
        function = getattr(functions, name)
        function.argtypes, function.restype = arguments, None
    return functions


class NativeMatcher:
    """Matching on the CPU's cores; the same bits whatever the number of threads."""

    def __init__(self, library: Path, threads: int) -> None:
        """Raises OSError where the library does not load."""
        self._library, self._threads = loaded(library), threads

    def score(self, problem: Problem, geometry: Geometry | None = None) -> Floats:
        """Cost of the planes as they are in each source, [sources, h, w]."""
        costs = np.empty((len(problem.sources), *problem.cost.shape), np.float32)
        self._library.dense_score(_handed(problem, geometry), costs.ctypes.data, self._threads)
        return costs

    def rate(self, problem: Problem, geometry: Geometry | None = None) -> None:
        """Sets `cost` of the planes as they are: the mean of the best two sources."""
        self._library.dense_rate(_handed(problem, geometry), self._threads)

    def improve(
        self, problem: Problem, iteration: int, wild: bool, geometry: Geometry | None = None
    ) -> None:
        """Tries other planes on every pixel once; `wild` also such as nothing speaks for."""
        handed = _handed(problem, geometry, wild)
        for colour in range(2):
            self._library.dense_improve(handed, iteration, colour, self._threads)


def _handed(problem: Problem, geometry: Geometry | None, wild: bool = False) -> _Problem:
    window = problem.window
    handed = _Problem(
        reference=_view(problem.reference, None),
        source_count=len(problem.sources),
        sample_count=len(window.offsets),
        radius=window.radius,
        grey_noise=window.grey_noise,
        least_inverse=problem.least_inverse,
        most_inverse=problem.most_inverse,
        geometry_weight=geometry.weight if geometry else 0,
        geometry_limit=geometry.limit if geometry else 0,
        seed=problem.seed,
        wild=wild,
        planes=_address(problem.planes),
        cost=_address(problem.cost),
    )
    for index, source in enumerate(problem.sources):
        rotation, translation = problem.relative(source)
        inverse_depth = geometry.inverse_depths[index] if geometry else None
        handed.sources[index] = _Source(
            _view(source, inverse_depth), (*rotation.ravel(),), (*translation,)
        )
    for field, values in (
        ("offset_x", window.offsets[:, 0]),
        ("offset_y", window.offsets[:, 1]),
        ("spatial_weight", window.spatial_weights),
        ("grey_weight", window.grey_weights),
    ):
        getattr(handed, field)[: len(values)] = values.tolist()
    return handed


def _view(view: View, inverse_depth: Floats | None) -> _View:
    camera = view.camera
    ray_x, ray_y = camera.rays
    return _View(
        _address(view.quads),
        _address(ray_x),
        _address(ray_y),
        None if inverse_depth is None else _address(inverse_depth),
        camera.height,
        camera.width,
        camera.focal_x,
        camera.focal_y,
        camera.cx,
        camera.cy,
        camera.distortion,
    )


def _address(array: NDArray) -> int:
    assert array.flags.c_contiguous
    return array.ctypes.data
