"""Which pictures are compared, and the matches between them that one epipolar geometry explains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pycolmap

from refinement.cameras.evidence import Matches
from refinement.cameras.features import Workspace
from refinement.network import NetworkScene

ALL_PAIRS_UP_TO = 30
"""With more pictures than that, each is compared with `NEIGHBOURS` in order on either side and the
`OVERLAPPING` that see most of the same by the network's account."""
NEIGHBOURS, OVERLAPPING = 2, 8

CHANCE_SHARE, LEAST_BEYOND_CHANCE = 0.3, 12
"""A pair counts if its verified matches exceed this share of all its matches by this number. Two
pictures with nothing in common have 30 to 70 matches, and some fundamental matrix explains 15 to 30
of them: of 131 verified pairs of the courtyard the rule drops 40, of which true cameras support 4.
"""

_BATCH = 64
_SAMPLES = 12  # a side, of the grid of points that a picture is judged by


def choose_pairs(scene: NetworkScene, sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, in order. `sizes` are (height, width)."""
    count = len(sizes)
    if count <= ALL_PAIRS_UP_TO:
        return list(combinations(range(count), 2))
    chosen = {(i, j) for i in range(count) for j in range(i + 1, min(count, i + 1 + NEIGHBOURS))}
    overlap = view_overlap(scene, sizes)
    np.fill_diagonal(overlap, -1)
    for i in range(count):
        for j in np.argsort(-overlap[i], kind="stable")[:OVERLAPPING]:
            chosen.add((min(i, int(j)), max(i, int(j))))
    return sorted(chosen)


def view_overlap(scene: NetworkScene, sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """How much of what picture i sees lies in the view of j, the smaller of both directions:
    `[S, S]`, 0 to 1. What i sees are points at the network's depth."""
    cameras = scene.cameras
    count = len(sizes)
    seen = np.zeros((count, count))
    shape = np.array([(width, height) for height, width in sizes], dtype=np.float64)
    for i in range(count):
        points = _points(scene, i)
        if not len(points):
            continue
        for j in range(count):
            local = points @ cameras.extrinsics[j, :, :3].T + cameras.extrinsics[j, :, 3]
            with np.errstate(all="ignore"):
                pixel = cameras.focal[j] * local[:, :2] / local[:, 2:] + cameras.centre[j]
            inside = (pixel >= 0).all(1) & (pixel <= shape[j]).all(1) & (local[:, 2] > 0)
            seen[i, j] = inside.mean()
    return np.minimum(seen, seen.T)


def _points(scene: NetworkScene, picture: int) -> np.ndarray:
    """A grid of points `[N, 3]` in the world that the network sees in a picture."""
    cameras, depth = scene.cameras, scene.depth[picture]
    rows, columns = depth.shape
    y, x = np.meshgrid(
        np.linspace(0, rows - 1, min(rows, _SAMPLES)).round().astype(int),
        np.linspace(0, columns - 1, min(columns, _SAMPLES)).round().astype(int),
        indexing="ij",
    )
    z = depth[y, x].ravel().astype(np.float64)
    scale = cameras.longer_side[picture] / max(rows, columns)
    pixel = (np.stack((x.ravel(), y.ravel()), axis=1) + 0.5) * scale
    rays = cameras.rays(np.full(len(pixel), picture), pixel)
    local = np.concatenate((rays, np.ones((len(rays), 1))), axis=1) * z[:, None]
    local = local[np.isfinite(local).all(1) & (z > 0)]
    rotation, translation = cameras.extrinsics[picture, :, :3], cameras.extrinsics[picture, :, 3]
    return (local - translation) @ rotation


def match(
    workspace: Workspace,
    pairs: Sequence[tuple[int, int]],
    threads: int,
    report: Callable[[float], None],
) -> None:
    """Matches of the key points of these pairs, verified by a fundamental matrix, so that they
    don't depend on anybody's focal length."""
    listed = workspace.folder / "pairs.txt"
    for start in range(0, len(pairs), _BATCH):
        report(start / len(pairs))
        names = workspace.names
        lines = [f"{names[i]} {names[j]}" for i, j in pairs[start : start + _BATCH]]
        listed.write_text("\n".join(lines))
        pycolmap.match_image_pairs(
            workspace.database,
            pycolmap.FeatureMatchingOptions(num_threads=threads),
            pycolmap.ImportedPairingOptions(match_list_path=listed),
            _verification(),
        )
    _drop_chance(workspace)


def verify(workspace: Workspace, threads: int) -> None:
    """The same for matches that a database has already."""
    pycolmap.geometric_verification(
        workspace.database,
        pycolmap.GeometricVerifierOptions(num_threads=threads),
        two_view_geometry_options=_verification(),
    )
    _drop_chance(workspace)


def _verification() -> pycolmap.TwoViewGeometryOptions:
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = 0
    return options


def _drop_chance(workspace: Workspace) -> None:
    """Takes back the verification of pairs whose matches may agree by chance."""
    with pycolmap.Database.open(workspace.database) as database:
        everything = dict(zip(*database.read_num_matches(), strict=True))
        for pair, verified in zip(*database.read_two_view_geometry_num_inliers(), strict=True):
            if verified < CHANCE_SHARE * everything[pair] + LEAST_BEYOND_CHANCE:
                database.delete_two_view_geometry(*pycolmap.pair_id_to_image_pair(pair))


def read_matches(workspace: Workspace) -> Matches:
    """The verified matches of a database, pairs in order."""
    kinds = pycolmap.TwoViewGeometryConfiguration
    planar = {int(kinds.PLANAR), int(kinds.PANORAMIC), int(kinds.PLANAR_OR_PANORAMIC)}
    with pycolmap.Database.open(workspace.database) as database:
        points = [
            database.read_keypoints(index + 1)[:, :2].astype(np.float64)
            if database.exists_keypoints(index + 1)
            else np.zeros((0, 2))
            for index in range(workspace.count)
        ]
        found = {}
        for pair, geometry in zip(*database.read_two_view_geometries(), strict=True):
            first, second = pycolmap.pair_id_to_image_pair(pair)
            if len(geometry.inlier_matches):
                found[first - 1, second - 1] = geometry
    order = sorted(found)
    inliers = [found[pair].inlier_matches.astype(np.int64) for pair in order]
    both = np.concatenate([np.zeros((0, 2), np.int64), *inliers])
    counts = np.array([len(matches) for matches in inliers], dtype=np.int64)
    pair_of = np.repeat(np.arange(len(order)), counts)
    pictures = np.array(order, dtype=np.int64).reshape(-1, 2)

    def pixels(side: int) -> np.ndarray:
        parts = [
            points[pair[side]][rows[:, side]] for pair, rows in zip(order, inliers, strict=True)
        ]
        return np.concatenate([np.zeros((0, 2)), *parts])

    return Matches(
        pictures=pictures,
        planar=np.array([int(found[pair].config) in planar for pair in order], dtype=bool),
        pair=pair_of,
        key_point=both,
        pixel=np.stack((pixels(0), pixels(1)), axis=1),
    )
