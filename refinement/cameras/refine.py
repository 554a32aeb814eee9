"""From pictures to refined cameras: stage by stage, method by method, and what is made of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refinement.camera_set import CameraSet
from refinement.cameras import features, pairs
from refinement.cameras.decide import LEAST_GAIN, LEAST_SHARE, Judged, judge, shows_parallax
from refinement.cameras.depth_fit import fit_depth
from refinement.cameras.evidence import Matches
from refinement.cameras.frame import depths, placed
from refinement.cameras.hinge import weak_connection
from refinement.cameras.mapped import globally_mapped, mapped
from refinement.cameras.seeded import seeded
from refinement.cameras.solution import Solution, Tracks
from refinement.cameras.triangulated import with_cameras
from refinement.network import NetworkScene
from refinement.photograph import Photograph
from refinement.result import Method, Reason, RefinedPicture, Refinement, SparsePoints
from refinement.task import Task
from refinement.unrefined import network_pictures, unrefined

Report = Callable[[str, float], None]
Keep = Callable[[Refinement], None]

_DEFAULT_FOCAL = 1.2  # longer sides, where EXIF says nothing
_FOCAL_DIFFERS = 0.1
_LEAST_MATCHES = 20


def refine_cameras(task: Task, folder: Path, report: Report, keep: Keep) -> Refinement:
    """The best cameras that the matches between the pictures support, or the network's.

    Scratch files go to `folder`. `keep` gets every answer that is better than the one before.
    """
    search = _Search(task, folder, report, keep)
    with search.timed("features"):
        features.extract(search.workspace, search.threads, lambda share: report("features", share))
    with search.timed("matching"):
        chosen = pairs.choose_pairs(task.network, search.sizes)
        matches = pairs.match(
            search.workspace, chosen, search.threads, lambda share: report("matching", share)
        )
    return search.run(matches)


@dataclass
class _Search:
    """The methods in turn, and the best answer so far."""

    task: Task
    folder: Path
    report: Report
    keep: Keep
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        photographs, options = self.task.photographs, self.task.options
        self.started = time.monotonic()
        self.sizes = [(p.height, p.width) for p in photographs]
        self.threads = options.threads
        groups = features.lens_groups(photographs, options.camera)
        self.workspace = features.Workspace(self.folder, photographs, groups)
        self.network = self.task.network
        focal = self.workspace.group_focal(self.network.cameras)
        self.start = replace(self.network.cameras, focal=np.array([focal[g] for g in groups]))
        self.workspace.write_pictures(self.network.cameras, self.sizes)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds what is done inside to the stage's seconds."""
        started = time.monotonic()
        self.report(stage, 0)
        yield
        self.seconds[stage] = time.monotonic() - started
        self.report(stage, 1)

    def run(self, matches: Matches) -> Refinement:
        """The decision. Methods follow each other until one leaves nothing to improve."""
        network = self.network
        if len(matches) < _LEAST_MATCHES:
            return self._stay(
                "too-few-matches",
                f"Only {len(matches)} points were found again in another picture. Pictures of one "
                "scene with texture, taken close to each other, match better.",
                support=None if len(matches) == 0 else _share(matches, network.cameras),
            )
        support = _share(matches, network.cameras)
        self.keep(self._stay("not-finished", "The refinement did not come to an end.", support))

        best: Judged | None = None
        flat = settled = False  # found without parallax: by half of the pictures, by all matches
        for method in self._methods():
            with self.timed(method):
                judged = [judge(found, matches) for found in self._solve(method)]
            for candidate in judged:
                if not shows_parallax(candidate, matches):
                    flat = flat or candidate.solution.kept.mean() >= 0.5
                    settled = settled or candidate.settled
                elif best is None or candidate.score > best.score:
                    best = candidate
                    self.keep(self._answer(best, matches, support))
            if settled or (best is not None and best.settled):
                break
        if best is None or settled:
            return self._none(flat, matches, support)
        return self._answer(best, matches, support)

    def _methods(self) -> Iterator[Method]:
        """From the quickest to the slowest, every lens with the focal length to start from."""
        network, other = self.workspace.group_focal(self.network.cameras), self._other_focal()
        yield "seeded"
        yield "mapped"
        change = np.abs(np.log(np.array(other) / np.array(network)))
        if (change > math.log(1 + _FOCAL_DIFFERS)).any():
            self.workspace.set_focal(other)
            yield "mapped with another focal length"
            self.workspace.set_focal(network)
        yield "global"

    def _solve(self, method: Method) -> list[Solution]:
        distortion = self.task.options.distortion != "none"
        if method == "seeded":
            return [seeded(self.workspace, self.start, self.threads, distortion)]
        if method == "global":
            return globally_mapped(self.workspace, self.start)
        left = self.task.options.seconds - (time.monotonic() - self.started)
        return mapped(self.workspace, self.start, method, distortion, left)

    def _other_focal(self) -> list[float]:
        """For every lens the focal length of EXIF, or that of a common lens."""
        focal = {}
        for photograph, group in zip(self.task.photographs, self.workspace.groups, strict=True):
            common = _DEFAULT_FOCAL * max(photograph.height, photograph.width)
            focal[group] = photograph.focal or common
        return [focal[group] for group in sorted(focal)]

    def _stay(self, code: str, message: str, support: float | None) -> Refinement:
        """The network's cameras, and why."""
        notes = []
        if support is not None and support < LEAST_SHARE:
            notes.append(
                Reason(
                    "not-reliable",
                    f"The network's cameras satisfy {support:.0%} of the matches between the "
                    "pictures only, and no better ones were found: they are probably wrong.",
                )
            )
        return replace(
            unrefined(self.network.cameras, Reason(code, message)),
            support=support,
            network_support=support,
            notes=tuple(notes),
            seconds=dict(self.seconds),
        )

    def _none(self, flat: bool, matches: Matches, support: float) -> Refinement:
        if flat:
            return self._stay(
                "no-parallax",
                "The camera hardly moved between the pictures, so that their matches don't tell "
                "where it stood. Step aside between pictures instead of turning.",
                support,
            )
        return self._stay(
            "not-supported",
            f"No cameras were found that satisfy enough of the {len(matches)} matches between "
            "the pictures.",
            support,
        )

    def _answer(self, judged: Judged, matches: Matches, network_support: float) -> Refinement:
        """The judged solution if it is worth it, else the network's cameras and why."""
        kept, count = judged.solution.kept, len(judged.solution.kept)
        if kept.sum() < max(2, count / 2):
            return self._stay(
                "not-supported",
                f"Matches support the cameras of {kept.sum()} of {count} pictures only.",
                network_support,
            )
        solution = placed(judged.solution, self.network)
        support = _share(matches, solution.cameras)
        if support < network_support + LEAST_GAIN:
            stayed = self._stay(
                "already-supported",
                f"The network's cameras satisfy {network_support:.0%} of the matches; refined "
                f"ones {support:.0%}.",
                network_support,
            )
            if self.task.wanted == "dense":  # which the network's cameras are good enough for
                points = with_cameras(judged.solution, self.network.cameras)
                stayed = replace(stayed, sparse=sparse_points(points, self.task.photographs))
            return stayed
        reason = None
        if not kept.all():
            reason = Reason(
                "partly-supported",
                f"Matches support the cameras of {kept.sum()} of {count} pictures; the others "
                "keep the network's.",
            )
        angles = solution.tracks.ray_angles(solution.cameras)
        return Refinement(
            pictures=_pictures(solution, judged, matches, self.network, angles),
            method=solution.method,
            support=support,
            network_support=network_support,
            reason=reason,
            sparse=sparse_points(solution, self.task.photographs),
            notes=weak_connection(matches, solution),
            seconds=dict(self.seconds),
        )


def _share(matches: Matches, cameras: CameraSet) -> float:
    return float(matches.supported(cameras).mean())


def _pictures(
    solution: Solution,
    judged: Judged,
    matches: Matches,
    network: NetworkScene,
    angles: NDArray[np.float64],
) -> tuple[RefinedPicture, ...]:
    cameras, kept = solution.cameras, solution.kept
    observations = solution.tracks.observations(len(kept))
    share = _shares(matches, cameras)
    pictures = []
    for i, picture in enumerate(network_pictures(cameras)):
        fit = None
        if kept[i]:
            fit = fit_depth(*depths(cameras, solution.tracks, network, i), float(angles[i]))
        own = judged.share[i] if kept[i] else share[i]
        pictures.append(
            replace(
                picture,
                source="refined" if kept[i] else "network",
                share=None if np.isnan(own) else float(own),
                observations=int(observations[i]),
                ray_angle=None if np.isnan(angles[i]) else float(angles[i]),
                depth_fit=fit,
            )
        )
    return tuple(pictures)


def _shares(matches: Matches, cameras: CameraSet) -> NDArray[np.float64]:
    """Every picture's supported matches of all that it has `[S]`; NaN without."""
    count = len(cameras.focal)
    good = matches.count(matches.supported(cameras), count).sum(1)
    total = matches.count(np.ones(len(matches), dtype=bool), count).sum(1)
    return np.divide(good, total, out=np.full(count, np.nan), where=total > 0)


def sparse_points(solution: Solution, photographs: Sequence[Photograph]) -> SparsePoints:
    """The points with their colours, the mean over the pictures that see them."""
    tracks, cameras = solution.tracks, solution.cameras
    colour = np.zeros((len(tracks.xyz), 3))
    for picture in np.unique(tracks.picture):
        rows = np.flatnonzero(tracks.picture == picture)
        with Image.open(photographs[picture].path) as image:
            pixels = np.asarray(image.convert("RGB"))
        x, y = tracks.pixel[rows].astype(np.int64).T
        height, width = pixels.shape[:2]
        seen = pixels[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
        np.add.at(colour, tracks.point[rows], seen)
    views = np.bincount(tracks.point, minlength=len(tracks.xyz))[:, None]
    error = np.linalg.norm(_projected(tracks, cameras) - tracks.pixel, axis=1)
    total = np.bincount(tracks.point, weights=error, minlength=len(tracks.xyz))
    return SparsePoints(
        xyz=tracks.xyz,
        rgb=(colour / np.maximum(views, 1)).round().astype(np.uint8),
        error=total / np.maximum(views[:, 0], 1),
        start=np.searchsorted(tracks.point, np.arange(len(tracks.xyz) + 1)),
        picture=tracks.picture,
        pixel=tracks.pixel,
    )


def _projected(tracks: Tracks, cameras: CameraSet) -> NDArray[np.float64]:
    """Where the cameras see the points of all observations `[M, 2]`, pixels."""
    pose = cameras.extrinsics[tracks.picture]
    local = np.einsum("mij,mj->mi", pose[:, :, :3], tracks.xyz[tracks.point]) + pose[:, :, 3]
    ray = local[:, :2] / local[:, 2:]
    radial = 1 + cameras.distortion[tracks.picture] * (ray**2).sum(1)
    zoom = cameras.focal[tracks.picture] * radial
    return ray * zoom[:, None] + cameras.centre[tracks.picture]
