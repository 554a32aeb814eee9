"""Dense depth of pictures whose cameras are known, from their own pixels.

Every pixel gets a slanted plane by PatchMatch: planes are drawn, handed on from pixel to pixel and
changed a little, and the one whose window looks most alike in the neighbouring pictures stays
(Bleyer, Rhemann and Rother, "PatchMatch Stereo", BMVC 2011). Pixels are taken in the two colours of
a checkerboard, so that all of one colour can be worked on at once; each looks at the best pixel of
eight regions around it, and judges a neighbouring picture by how well the planes around here do in
it, which leaves out pictures that do not see the surface (Xu and Tao, "Multi-Scale Geometric
Consistency Guided Multi-View Stereo", CVPR 2019). Windows are compared by normalised correlation
with bilateral weights, and later rounds add how far a neighbour's own depth is from agreeing
(Schoenberger, Zheng, Pollefeys and Frahm, "Pixelwise View Selection for Unstructured Multi-View
Stereo", ECCV 2016). It goes from small pictures to large ones.

A pixel is verified where other pictures' depths agree with its own (`agreement`). The others get
the network's depth, fitted to the verified ones (`fill`). Rays and projections have the cameras'
radial distortion; nothing is undistorted first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refinement.dense import neighbours, views
from refinement.dense.agreement import Surface, agreeing
from refinement.dense.fill import filled
from refinement.dense.native import NativeMatcher
from refinement.dense.neighbours import DepthRange
from refinement.dense.problem import Geometry, Problem, Window
from refinement.dense.views import Floats, View
from refinement.options import RefineOptions
from refinement.photograph import Photograph
from refinement.result import (
    NETWORK,
    NO_DATA,
    VERIFIED,
    DenseMap,
    RefinedPicture,
    SparsePoints,
)

if TYPE_CHECKING:
    from refinement.dense.torch_matcher import TorchMatcher

_BYTES_A_PIXEL = 64
"""Of all pictures' pixels, held at once."""


@dataclass(frozen=True)
class Effort:
    """How much is tried."""

    matched: int = 4
    """Neighbours that windows are compared with."""
    asked: int = 6
    """Neighbours that may verify a depth."""
    smallest: int = 160
    """Longer side below which pictures are not made smaller."""
    first_rounds: int = 5
    """On the smallest pictures, without other pictures' depths."""
    later_rounds: int = 0
    """The same on the larger ones."""
    agreeing_rounds: int = 2
    """With other pictures' depths, on each size."""
    window: Window = field(default_factory=Window)


_EFFORT = Effort()


def dense_depth(
    photographs: Sequence[Photograph],
    pictures: Sequence[RefinedPicture],
    sparse: SparsePoints,
    network_depth: Sequence[NDArray[np.float32]],
    options: RefineOptions,
    library: Path | None,
    report: Callable[[str, float], None] = lambda stage, share: None,
    effort: Effort = _EFFORT,
) -> tuple[DenseMap, ...]:
    """One map a picture, at most `options.pixels` on its longer side, in the unit of the cameras.

    `network_depth` has one array a picture that covers it as a whole, at any size, NaN where the
    network did not see. Pictures whose camera is not refined, or that share too little with others,
    have the network's depth only. `library` is the compiled matching; None: plain torch does it,
    slowly. The same input gives the same bits on any number of threads.
    """
    size = _size(photographs, options)
    chosen = neighbours.choose(pictures, sparse, effort.asked)
    largest = [
        views.load(photograph, picture, size)
        for photograph, picture in zip(photographs, pictures, strict=True)
    ]
    networks = [
        _resized(depth, view.grey.shape) for depth, view in zip(network_depth, largest, strict=True)
    ]
    matcher = _matcher(options, library)
    surfaces = _matched(
        photographs, pictures, sparse, networks, largest, chosen, matcher, report, effort
    )
    needed = 2 if len(surfaces) > 2 else 1
    maps = []
    for index, (picture, network) in enumerate(zip(pictures, networks, strict=True)):
        network = _by_itself(network, picture)
        surface = surfaces.get(index)
        if surface is None:
            depth, verified = network, np.zeros(network.shape, bool)
        else:
            others = [surfaces[j] for j in chosen[index] if j in surfaces]
            depth, verified = agreeing(surface, others, needed)
            depth = filled(depth, verified, network)
        source = np.where(verified, VERIFIED, np.where(np.isfinite(depth), NETWORK, NO_DATA))
        maps.append(DenseMap(depth, source.astype(np.uint8)))
        report("dense", 0.9 + 0.1 * (index + 1) / len(pictures))
    return tuple(maps)


def _size(photographs: Sequence[Photograph], options: RefineOptions) -> int:
    """Longer side of the maps: what is asked for, or what fits into half of the memory."""
    size = min(options.pixels, max(max(p.height, p.width) for p in photographs))
    while size > 64:
        area = sum(height * width for height, width in (views.grid(p, size) for p in photographs))
        if area * _BYTES_A_PIXEL <= options.memory_bytes / 2:
            break
        size = int(size * 0.9)
    return size


def _resized(depth: NDArray[np.float32], shape: tuple[int, ...]) -> Floats:
    """Bilinear, or the nearest pixel where one of the four has no depth."""
    rows, columns = (
        (np.arange(size) + 0.5) * given / size
        for size, given in zip(shape, depth.shape, strict=True)
    )
    nearest = depth[rows.astype(np.int64)[:, None], columns.astype(np.int64)]
    mixed = _between(_between(depth, rows).T, columns).T
    return np.ascontiguousarray(np.where(np.isnan(mixed), nearest, mixed), np.float32)


def _between(values: NDArray[np.float32], position: NDArray[np.float64]) -> Floats:
    """Rows of `values`, whose centres lie at + 0.5, at these positions."""
    position = np.clip(position - 0.5, 0, len(values) - 1)
    low = np.floor(position).astype(np.int64)
    share = (position - low)[:, None].astype(np.float32)
    mixed: Floats = (1 - share) * values[low] + share * values[np.minimum(low + 1, len(values) - 1)]
    return mixed


def _by_itself(network: Floats, picture: RefinedPicture) -> Floats:
    """The network's depth as the picture's sparse points have it fitted, or as it is."""
    with np.errstate(invalid="ignore", divide="ignore"):
        known = np.where(network > 0, network, np.nan)
        if picture.depth_fit is None:
            return known
        a, b = picture.depth_fit
        return np.asarray(np.exp(a) * known**b, np.float32)


def _matched(
    photographs: Sequence[Photograph],
    pictures: Sequence[RefinedPicture],
    sparse: SparsePoints,
    networks: Sequence[Floats],
    largest: Sequence[View],
    chosen: Sequence[Sequence[int]],
    matcher: NativeMatcher | TorchMatcher,
    report: Callable[[str, float], None],
    effort: Effort,
) -> dict[int, Surface]:
    """What matching finds for the pictures that have neighbours, by their index."""
    ranges: dict[int, DepthRange] = {}
    for index in range(len(pictures)):
        found = neighbours.depth_range(_sparse_depths(pictures[index], sparse, index)[2])
        if chosen[index] and found is not None:
            ranges[index] = found
    compared = {index: list(chosen[index][: effort.matched]) for index in ranges}
    sizes = [max(max(view.grey.shape) for view in largest)]
    while sizes[-1] // 2 >= effort.smallest:
        sizes.append(sizes[-1] // 2)
    sizes.reverse()
    work = _Progress(report, sizes, effort)
    problems: dict[int, Problem] = {}
    iteration = 0
    for size in sizes:
        level = [
            views.smaller(view, photograph, picture, size)
            for view, photograph, picture in zip(largest, photographs, pictures, strict=True)
        ]
        first = size == sizes[0]
        for index, limits in ranges.items():
            view = level[index]
            planes = (
                _first_planes(view, index, limits)
                if first
                else _enlarged(problems[index].planes, view.grey.shape)
            )
            problems[index] = Problem(
                reference=view,
                sources=[level[j] for j in compared[index]],
                planes=planes,
                cost=np.empty(view.grey.shape, np.float32),
                least_inverse=limits.least,
                most_inverse=limits.most,
                seed=index,
                window=effort.window,
            )
            matcher.rate(problems[index])
        for _ in range(effort.first_rounds if first else effort.later_rounds):
            iteration += 1
            for problem in problems.values():
                matcher.improve(problem, iteration, wild=first)
            work.add(size)
        for round_ in range(effort.agreeing_rounds):
            iteration += 1
            depths = {index: problem.inverse_depth for index, problem in problems.items()}
            for index, problem in problems.items():
                geometry = Geometry(
                    [
                        depths.get(j, np.zeros(level[j].grey.shape, np.float32))
                        for j in compared[index]
                    ]
                )
                if round_ == 0:
                    matcher.rate(problem, geometry)
                matcher.improve(problem, iteration, wild=False, geometry=geometry)
            work.add(size)
    for problem in problems.values():
        matcher.rate(problem)
    return {
        index: Surface(problem.reference.camera, problem.planes, problem.cost)
        for index, problem in problems.items()
    }


def _matcher(options: RefineOptions, library: Path | None) -> NativeMatcher | TorchMatcher:
    if library is not None and options.device == "cpu":
        with suppress(OSError):  # it was made for another machine
            return NativeMatcher(library, options.threads)
    from refinement.dense.torch_matcher import TorchMatcher

    return TorchMatcher(options.device)


class _Progress:
    """Rounds that are done, by how many pixels they take, as a share up to 0.9."""

    def __init__(
        self, report: Callable[[str, float], None], sizes: Sequence[int], effort: Effort
    ) -> None:
        rounds = [effort.later_rounds + effort.agreeing_rounds] * len(sizes)
        rounds[0] += effort.first_rounds - effort.later_rounds
        self._report, self._done = report, 0
        self._all = sum(count * size**2 for count, size in zip(rounds, sizes, strict=True))

    def add(self, size: int) -> None:
        self._done += size**2
        self._report("dense", 0.9 * self._done / self._all)


def _sparse_depths(
    picture: RefinedPicture, sparse: SparsePoints, index: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Columns and rows in pixels of the photograph, and depths, of what this picture observes."""
    points = np.repeat(np.arange(len(sparse.xyz)), np.diff(sparse.start))
    mine = sparse.picture == index
    local = sparse.xyz[points[mine]] @ picture.extrinsic[2, :3] + picture.extrinsic[2, 3]
    pixel = sparse.pixel[mine]
    return pixel[:, 0], pixel[:, 1], local


def _first_planes(view: View, index: int, limits: DepthRange) -> Floats:
    """Planes [3, h, w] to begin with: anywhere within the depths that the sparse points allow."""
    height, width = view.grey.shape
    rng = np.random.default_rng(index)
    inverse = rng.uniform(limits.least, limits.most, (height, width))
    x, y = view.camera.rays
    normal = rng.normal(0, 0.4, (3, height, width))
    normal[2] += 1
    along = normal[0] * x + normal[1] * y + normal[2]
    turned = along < 0.3 * np.sqrt((normal**2).sum(0))
    normal[:, turned] = np.array([0.0, 0.0, 1.0])[:, None]
    along[turned] = 1
    return np.ascontiguousarray(normal * (inverse / along), np.float32)


def _enlarged(planes: Floats, shape: tuple[int, ...]) -> Floats:
    """Each pixel takes the plane of the one below it on the smaller grid."""
    rows = ((np.arange(shape[0]) + 0.5) * planes.shape[1] / shape[0]).astype(np.int64)
    columns = ((np.arange(shape[1]) + 0.5) * planes.shape[2] / shape[1]).astype(np.int64)
    return np.ascontiguousarray(planes[:, rows[:, None], columns])
