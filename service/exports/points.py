"""Which pixels of a scene become points of its cloud.

A scene with dense depth gives the pixels of its dense maps, others those of the network's grid. The
cloud is never whole in memory: what is chosen is remembered by bits, and points are made picture by
picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from model.scene.distortion import undistort
from refinement.result import NETWORK, VERIFIED
from service.errors import InvalidOption
from service.exports.options import PointOptions
from service.exports.percentile import percentile
from service.result.scene import Scene

MOST_POINTS = 10_000_000
"""Of a cloud whose size nobody asks for."""
_MERGED = 2**20  # candidates of the pictures that are compared with the rest together
_BLACK, _WHITE = 16, 240
_CUBES = 1 << 20
_MOST_DRAWN = 10**9  # points: NumPy draws shares of fewer only
_SKY_BRIGHT, _SKY_WHITE, _SKY_TEXTURE = 110, 200, 12


@dataclass(frozen=True)
class PixelGrid:
    """The pixels [h, w] of one picture that can become points: those of its dense map, or of the
    network's grid."""

    scene: Scene
    index: int

    @property
    def dense(self) -> bool:
        """Whether these are the pixels of a dense map."""
        return self.scene.dense is not None

    @cached_property
    def depth(self) -> NDArray[np.float32]:
        """Depth [h, w]."""
        if self.scene.dense is not None:
            return np.asarray(self.scene.dense[self.index].depth)
        return np.asarray(self.scene.depth[self.index])

    @cached_property
    def colors(self) -> NDArray[np.uint8]:
        """sRGB [h, w, 3]."""
        if self.dense:
            rows, columns = self.depth.shape
            return self.scene.original(self.index, (rows, columns))
        return np.asarray(self.scene.colors[self.index])

    @cached_property
    def confidence(self) -> NDArray[np.float32]:
        """The network's confidence [h, w], 1 where it did not look."""
        return self._of_network(self.scene.confidence, np.float32(1))

    def seen(self, options: PointOptions) -> NDArray[np.bool_]:
        """Pixels [h, w] that have depth of the kind asked for and that no user's mask hides."""
        if self.scene.dense is None:
            return np.asarray(self.scene.mask[self.index]) & self.kept
        source = np.asarray(self.scene.dense[self.index].source)
        least = NETWORK if options.points == "all" else VERIFIED
        return (source >= least) & self.kept

    @cached_property
    def kept(self) -> NDArray[np.bool_]:
        """Pixels [h, w] that no user's mask hides."""
        return self._of_network(self.scene.keep, np.True_)

    @property
    def verified(self) -> NDArray[np.bool_]:
        """Pixels [h, w] that several pictures agree on."""
        if self.scene.dense is None:
            return np.zeros(self.depth.shape, bool)
        return np.asarray(self.scene.dense[self.index].source) == VERIFIED

    @property
    def content(self) -> NDArray[np.bool_]:
        """Pixels [h, w] that are no padding."""
        if self.dense:
            return np.ones(self.depth.shape, bool)
        return np.asarray(self.scene.mask[self.index])

    def original_pixels(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Centres [N, 2] (x, y) of pixels of this grid in pixels of the original picture."""
        centre = np.stack([columns, rows], axis=1) + 0.5
        picture = self.scene.document.pictures[self.index]
        if self.dense:
            size = picture.original_size
            return centre * [size.width / self.depth.shape[1], size.height / self.depth.shape[0]]
        scale, offset = picture.transform["scale"], picture.transform["offset"]
        places: NDArray[np.float64] = (centre - [offset["x"], offset["y"]]) / [
            scale["x"],
            scale["y"],
        ]
        return places

    @property
    def pixel_width(self) -> float:
        """Width of a pixel of this grid at depth 1."""
        picture = self.scene.document.pictures[self.index]
        if self.dense:
            share = picture.original_size.width / self.depth.shape[1]
            return share / picture.intrinsic[0][0]
        return 1 / picture.intrinsic_network[0][0]

    def points(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Points [N, 3] of pixels of this grid in the world frame."""
        picture = self.scene.document.pictures[self.index]
        matrix, extrinsic = np.array(picture.intrinsic), np.array(picture.extrinsic)
        places = (self.original_pixels(rows, columns) - matrix[:2, 2]) / np.diag(matrix)[:2]
        directions = undistort(places, picture.distortion)
        depth = self.depth[rows, columns].astype(np.float64)[:, None]
        seen = np.concatenate([directions * depth, depth], axis=1)
        return ((seen - extrinsic[:, 3]) @ extrinsic[:, :3]).astype(np.float32)

    def _of_network(self, maps: NDArray, elsewhere: np.generic) -> NDArray:
        """One of the network's maps at this grid's pixels, `elsewhere` where it did not look."""
        values = np.asarray(maps[self.index])
        if not self.dense:
            return values
        picture = self.scene.document.pictures[self.index]
        size = picture.original_size
        inside, places = [], []
        for axis, length, original in (("y", 0, size.height), ("x", 1, size.width)):
            count = self.depth.shape[length]
            centre = (np.arange(count) + 0.5) * (original / count)
            place = centre * picture.transform["scale"][axis] + picture.transform["offset"][axis]
            inside.append((place >= 0) & (place < values.shape[length]))
            places.append(place.astype(int).clip(0, values.shape[length] - 1))
        found = values[places[0][:, None], places[1]]
        return np.where(inside[0][:, None] & inside[1], found, elsewhere)


@dataclass(frozen=True)
class Block:
    """N points of one picture in the world frame with sRGB colours and the network's confidence.

    `pixels` are their (x, y) in the original picture.
    """

    index: int
    points: NDArray[np.float32]  # [N, 3]
    colors: NDArray[np.uint8]  # [N, 3]
    confidence: NDArray[np.float32]  # [N]
    pixels: NDArray[np.float64]  # [N, 2]

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class Cloud:
    """Chosen pixels of a scene, in the order of its pictures. `bits` is each picture's choice,
    packed."""

    scene: Scene
    bits: tuple[NDArray[np.uint8], ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, scene: Scene, chosen: Iterable[NDArray[np.bool_]]) -> Cloud:
        """The pixels [h, w] of each picture's grid that are True."""
        bits, counts = [], []
        for mask in chosen:
            bits.append(np.packbits(mask))
            counts.append(int(mask.sum()))
        return cls(scene, tuple(bits), tuple(counts))

    @classmethod
    def empty(cls, scene: Scene) -> Cloud:
        """No pixels at all."""
        return cls(scene, (), (0,) * len(scene.document.pictures))

    def __len__(self) -> int:
        return sum(self.counts)

    def of_pictures(self, indices: Sequence[int]) -> Cloud:
        """The pixels of these pictures alone."""
        counts = tuple(count if index in indices else 0 for index, count in enumerate(self.counts))
        return Cloud(self.scene, self.bits, counts)

    def places(self, index: int) -> tuple[PixelGrid, NDArray[np.int64], NDArray[np.int64]]:
        """One picture's grid, and rows and columns of its chosen pixels."""
        grid = PixelGrid(self.scene, index)
        size = grid.depth.size
        flat = np.flatnonzero(np.unpackbits(self.bits[index], count=size))
        rows, columns = np.divmod(flat, grid.depth.shape[1])
        return grid, rows, columns

    def blocks(self) -> Iterator[Block]:
        """The points of each picture that has any."""
        for index, count in enumerate(self.counts):
            if count:
                grid, rows, columns = self.places(index)
                yield Block(
                    index,
                    grid.points(rows, columns),
                    grid.colors[rows, columns],
                    grid.confidence[rows, columns],
                    grid.original_pixels(rows, columns),
                )


def select_points(scene: Scene, options: PointOptions) -> Cloud:
    """The cloud that `options` ask for.

    The percentile of confidence is taken over the network's pixels that masks and frames leave;
    what several pictures agree on stays whatever the network says. Colour and edge filters, voxels
    and the limit follow in this order. Raises InvalidOption for a frame that does not exist.
    """
    cloud = Cloud.of(scene, _chosen(scene, options))
    if options.voxel_size is not None and len(cloud):
        cloud = _most_confident_by_voxel(cloud, options.voxel_size)
    most = options.max_points or MOST_POINTS
    return _sample(cloud, most) if len(cloud) > most else cloud


def _chosen(scene: Scene, options: PointOptions) -> Iterator[NDArray[np.bool_]]:
    """Each picture's pixels [h, w] that masks, frames, confidence, colours and edges leave."""
    shown = _shown(scene, options)
    least = _least_confidence(scene, options, shown)
    for index in range(len(shown)):
        grid = PixelGrid(scene, index)
        seen = grid.seen(options) & shown[index]
        if least is not None:
            seen &= (grid.confidence >= least) | grid.verified
        if options.mask_black:
            seen &= ~nearly_black(grid.colors)
        if options.mask_white:
            seen &= ~nearly_white(grid.colors)
        if options.mask_sky:
            seen &= ~looks_like_sky(grid.colors, grid.content)
        if options.depth_edge is not None:
            seen &= ~depth_edges(grid.depth[None], options.depth_edge)[0]
        yield seen


def _shown(scene: Scene, options: PointOptions) -> NDArray[np.bool_]:
    """Which pictures [S] are asked for."""
    count = len(scene.document.pictures)
    numbers = options.frame_numbers
    if numbers is None:
        return np.ones(count, np.bool_)
    if numbers[-1] >= count:
        raise InvalidOption(
            f"frames names picture {numbers[-1]}; the last is {count - 1}.", option="frames"
        )
    shown = np.zeros(count, np.bool_)
    shown[numbers] = True
    return shown


def least_confidence(scene: Scene, options: PointOptions) -> float | None:
    """The confidence below which `options` leave out what is not verified; None for no bound.
    Raises InvalidOption as `select_points` does."""
    return _least_confidence(scene, options, _shown(scene, options))


def _least_confidence(
    scene: Scene, options: PointOptions, shown: NDArray[np.bool_]
) -> float | None:
    """The percentile of the network's confidence that is asked for, None for none."""
    if options.confidence <= 0:
        return None
    return percentile(
        lambda: (
            scene.confidence[index][np.asarray(scene.mask[index]) & scene.keep[index]]
            for index in np.flatnonzero(shown)
        ),
        options.confidence,
    )


def depth_edges(depth: NDArray[np.float32], share: float) -> NDArray[np.bool_]:
    """Pixels [S,H,W] whose depth differs from a neighbour's by more than `share` of the nearer
    one's."""
    edges: NDArray[np.bool_] = depth_jumps(depth) > share
    return edges


def depth_jumps(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """By how much the depth of each pixel [S,H,W] differs from a neighbour's, as a share of the
    nearer one's: the largest of all neighbours that have depth, else 0."""
    jumps = np.zeros(depth.shape, np.float32)
    for axis in (1, 2):
        a, b = np.split(depth, [-1], axis)[0], np.split(depth, [1], axis)[1]
        with np.errstate(divide="ignore", invalid="ignore"):
            jump = np.abs(a - b) / np.minimum(a, b)
        pad = [(0, 0)] * 3
        for before in (0, 1):
            pad[axis] = (before, 1 - before)
            np.fmax(jumps, np.pad(jump, pad), out=jumps)
    return jumps


def nearly_black(colors: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels [H,W] that are next to black."""
    black: NDArray[np.bool_] = colors.astype(np.int32).sum(-1) < _BLACK
    return black


def nearly_white(colors: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels [H,W] that are next to white."""
    return np.asarray((colors > _WHITE).all(-1))


def looks_like_sky(colors: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A guess [H,W] from colour alone: smooth and blue or very bright, without a break from the
    picture's top down.

    It knows no semantics: a white ceiling passes for sky, a dramatic evening sky does not.
    """
    red, green, blue = (colors[..., i].astype(np.int32) for i in range(3))
    brightest, darkest = (
        np.maximum(np.maximum(red, green), blue),
        np.minimum(np.minimum(red, green), blue),
    )
    is_blue = (blue >= green) & (green >= red - 8) & (blue - red > 12) & (blue > _SKY_BRIGHT)
    is_white = (darkest > _SKY_WHITE) & (brightest - darkest < 30)
    grey = colors.astype(np.float32).mean(-1)
    texture = np.abs(np.diff(grey, axis=0, prepend=grey[:1]))
    texture[~np.roll(mask, 1, axis=0)] = 0  # the edge of the padding is no texture
    candidate = ((is_blue | is_white) & (texture < _SKY_TEXTURE)) | ~mask
    from_the_top: NDArray[np.bool_] = np.logical_and.accumulate(candidate, axis=0) & mask
    return from_the_top


def first_by_cube(points: NDArray[np.floating], side: float) -> NDArray[np.int64]:
    """Numbers of the points [N, 3] that come first in their cube of this side, in no order."""
    cells = np.floor(points.astype(np.float64) / side)
    cells -= cells.min(0, initial=0)
    if cells.max(initial=0) < _CUBES:  # three coordinates in one number are sorted much faster
        keys = cells.astype(np.int64) @ [_CUBES**2, _CUBES, 1]
        return np.unique(keys, return_index=True)[1]
    return np.unique(cells, axis=0, return_index=True)[1]


def _most_confident_by_voxel(cloud: Cloud, size: float) -> Cloud:
    """The most confident point of each cube; of equals the first."""
    best, waiting, count = np.empty(0, _CANDIDATE), [], 0
    for block in cloud.blocks():
        found = np.empty(len(block), _CANDIDATE)
        found["point"], found["confidence"] = block.points, block.confidence
        found["picture"], found["number"] = block.index, np.arange(len(block))
        waiting.append(found)
        count += len(found)
        if count > max(len(best), _MERGED):  # sorted rarely, so that many pictures cost no more
            best, waiting, count = _best_by_voxel([best, *waiting], size), [], 0
    best = _best_by_voxel([best, *waiting], size)
    return _numbered(
        cloud, [best["number"][best["picture"] == index] for index in range(len(cloud.counts))]
    )


def _best_by_voxel(candidates: Sequence[NDArray], size: float) -> NDArray:
    both = np.concatenate(candidates)
    both = both[np.argsort(-both["confidence"], kind="stable")]
    return both[first_by_cube(both["point"], size)]


_CANDIDATE = np.dtype(
    [("point", "f4", 3), ("confidence", "f4"), ("picture", "i4"), ("number", "i4")]
)


def _sample(cloud: Cloud, count: int) -> Cloud:
    """`count` points at random, each as likely as any other."""
    random = np.random.default_rng(0)
    shares = _shares(random, cloud.counts, count)
    return _numbered(
        cloud,
        [
            random.choice(had, wanted, replace=False, shuffle=False)
            for had, wanted in zip(cloud.counts, shares, strict=True)
        ],
    )


def _shares(random: np.random.Generator, counts: Sequence[int], count: int) -> NDArray[np.integer]:
    """How many of `count` points each picture gives, of which it has so many."""
    total = sum(counts)
    if total < _MOST_DRAWN:
        return random.multivariate_hypergeometric(counts, count, method="marginals")
    ends = [reached * count // total for reached in accumulate(counts)]  # in proportion
    return np.diff([0, *ends])


def _numbered(cloud: Cloud, numbers: list[NDArray[np.integer]]) -> Cloud:
    """Of each picture's points those with these numbers."""
    chosen = []
    for index, wanted in enumerate(numbers):
        grid, rows, columns = cloud.places(index)
        mask = np.zeros(grid.depth.shape, bool)
        mask[rows[wanted], columns[wanted]] = True
        chosen.append(mask)
    return Cloud.of(cloud.scene, chosen)
