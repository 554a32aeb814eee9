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
from refinement.cameras.mapped import globally_mapped, mapped
from refinement.cameras.second_look import look_again
from refinement.cameras.seeded import seeded
from refinement.cameras.solution import Solution, Tracks
from refinement.cameras.triangulated import with_cameras
from refinement.network import NetworkScene
from refinement.photograph import Photograph
from refinement.result import NOT_FINISHED, Method, Reason, RefinedPicture, Refinement, SparsePoints
from refinement.task import Task
from refinement.unrefined import network_pictures, unrefined

Report = Callable[[str, float], None]
Keep = Callable[[Refinement], None]

_QUICK: tuple[Method, ...] = ("seeded", "mapped", "mapped with another focal length")
_SLOW: tuple[Method, ...] = ("global",)
_GLOBAL_DRAWS = 2
"""Global mapping starts from random places, and not every start ends well."""
_SECOND_LOOK_UP_TO = 30
"""More pictures overlap more, and would take too long."""

_SHARE_FOR_POLISH = 0.01
"""How much of the share a stricter adjustment may cost: with 0.4 % less it took 19 pictures of the
courtyard from an AUC@5 of 95.2 to 97.8."""

_DEFAULT_FOCAL = 1.2  # longer sides, where EXIF says nothing
_FOCAL_DIFFERS = 0.1
_LEAST_MATCHES = 20


def refine_cameras(task: Task, folder: Path, report: Report, keep: Keep) -> Refinement:
    """The best cameras that the matches between the pictures support, or the network's.

    Scratch files go to `folder`. `keep` gets every answer that is better than the one before.
    """
    search = _Search(task, folder, report, keep)
    workspace, threads = search.workspace, search.threads
    with search.timed("features"):
        features.extract(workspace, threads, lambda share: report("features", share))
    with search.timed("matching"):
        chosen = pairs.choose_pairs(task.network, search.sizes)
        pairs.match(workspace, chosen, threads, lambda share: report("matching", share))
    search.run(_QUICK)
    rest = _SLOW
    if not search.settled and len(task.photographs) <= _SECOND_LOOK_UP_TO:
        rest = (*_QUICK[1:], *_SLOW)
        with search.timed("second look"):
            affine = search.new_workspace(folder / "affine")
            look_again(
                workspace, affine, chosen, threads, lambda share: report("second look", share)
            )
    search.run(rest)
    search.polish()
    return search.answer()


@dataclass
class _Search:
    """The methods in turn, what they found, and the best of it."""

    task: Task
    folder: Path
    report: Report
    keep: Keep
    seconds: dict[str, float] = field(default_factory=dict)
    found: list[Solution] = field(default_factory=list)
    support: float | None = None  # share of the matches that the network's cameras satisfy
    best: Judged | None = None
    flat: bool = False  # a solution of half of the pictures, but without parallax
    standing: bool = False  # a solution that leaves nothing to improve, but without parallax

    def __post_init__(self) -> None:
        photographs, options = self.task.photographs, self.task.options
        self.started = time.monotonic()
        self.sizes = [(p.height, p.width) for p in photographs]
        self.threads = options.threads
        self.groups = features.lens_groups(photographs, options.camera)
        self.network = self.task.network
        self.workspace = self.new_workspace(self.folder)
        focal = self.workspace.group_focal(self.network.cameras)
        self.start = replace(self.network.cameras, focal=np.array([focal[g] for g in self.groups]))

    def new_workspace(self, folder: Path) -> features.Workspace:
        """One with the pictures and the network's focal lengths."""
        folder.mkdir(exist_ok=True)
        workspace = features.Workspace(folder, self.task.photographs, self.groups)
        workspace.write_pictures(self.network.cameras, self.sizes)
        return workspace

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds what is done inside to the stage's seconds."""
        started = time.monotonic()
        self.report(stage, 0)
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - started
        self.report(stage, 1)

    @property
    def settled(self) -> bool:
        """Nothing is left to improve."""
        return self.standing or (self.best is not None and self.best.certain)

    def run(self, methods: Sequence[Method]) -> None:
        """These methods on the matches that there are now, until nothing is left to improve."""
        if self.settled:
            return
        self.matches = pairs.read_matches(self.workspace)
        if len(self.matches) == 0:
            return
        self.support = _share(self.matches, self.network.cameras)
        if len(self.matches) < _LEAST_MATCHES:
            return
        self.best, self.flat = None, False
        for solution in self.found:
            self._consider(solution)
        if self.best is None:
            self.keep(self._stay(NOT_FINISHED.code, NOT_FINISHED.message))
        for method in methods:
            with self.timed(method):
                for solution in self._solve(method):
                    self.found.append(solution)
                    self._consider(solution)
                    if self.settled:
                        return

    def _consider(self, solution: Solution) -> None:
        """Whether it is the best so far."""
        judged = judge(solution, self.matches)
        if not shows_parallax(judged, self.matches):
            self.flat = self.flat or judged.solution.kept.mean() >= 0.5
            self.standing = self.standing or judged.settled
        elif self.best is None or judged.score > self.best.score:
            self.best = judged
            self.keep(self._answer(judged))

    def polish(self) -> None:
        """Adjusts what incremental mapping found once more: its own tolerances are looser."""
        if self.best is None or self.standing or not self.best.solution.method.startswith("mapped"):
            return
        rough = self.best.solution
        with self.timed("polishing"):
            fine = judge(self._adjusted(rough), self.matches)
        if (
            fine.solution.kept.sum() >= rough.kept.sum()
            and fine.total_share >= self.best.total_share - _SHARE_FOR_POLISH
        ):
            self.best = fine

    def _adjusted(self, rough: Solution) -> Solution:
        distortion = self.task.options.distortion != "none"
        return seeded(
            self.workspace, rough.cameras, rough.kept, rough.method, self.threads, distortion
        )

    def _solve(self, method: Method) -> Iterator[Solution]:
        workspace, start, threads = self.workspace, self.start, self.threads
        distortion = self.task.options.distortion != "none"
        if method == "seeded":
            everywhere = np.ones(workspace.count, dtype=bool)
            yield seeded(workspace, start, everywhere, method, threads, distortion)
        elif method == "global":
            for seed in range(_GLOBAL_DRAWS):
                for rough in globally_mapped(workspace, start, seed):
                    yield self._adjusted(rough)
                    yield rough
        else:
            network, other = workspace.group_focal(self.network.cameras), self._other_focal()
            change = np.abs(np.log(np.array(other) / np.array(network)))
            if method == "mapped":
                other = network
            elif (change < math.log(1 + _FOCAL_DIFFERS)).all():
                return
            workspace.set_focal(other)
            left = self.task.options.seconds - (time.monotonic() - self.started)
            found = mapped(workspace, start, method, distortion, left)
            workspace.set_focal(network)
            yield from found

    def _other_focal(self) -> list[float]:
        """For every lens the focal length of EXIF, or that of a common lens."""
        focal = {}
        for photograph, group in zip(self.task.photographs, self.workspace.groups, strict=True):
            common = _DEFAULT_FOCAL * max(photograph.height, photograph.width)
            focal[group] = photograph.focal or common
        return [focal[group] for group in sorted(focal)]

    def _stay(self, code: str, message: str) -> Refinement:
        """The network's cameras, and why."""
        notes = []
        support = self.support
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

    def answer(self) -> Refinement:
        """What is made of all that was found."""
        if len(self.matches) < _LEAST_MATCHES:
            return self._stay(
                "too-few-matches",
                f"Only {len(self.matches)} points were found again in another picture. Pictures of "
                "one scene with texture, taken close to each other, match better.",
            )
        if self.best is not None and not self.standing:
            return self._answer(self.best)
        if self.flat:
            return self._stay(
                "no-parallax",
                "The matches between the pictures don't tell where the camera stood: it hardly "
                "moved, or all that matches lies on one plane. Step aside between pictures instead "
                "of turning, and take in things at several distances.",
            )
        return self._stay(
            "not-supported",
            f"No cameras were found that satisfy enough of the {len(self.matches)} matches between "
            "the pictures.",
        )

    def _answer(self, judged: Judged) -> Refinement:
        """The judged solution if it is worth it, else the network's cameras and why."""
        kept, count = judged.solution.kept, len(judged.solution.kept)
        matches, before = self.matches, self.support
        if not judged.usable:
            return self._stay(
                "not-supported",
                f"Matches support the cameras of {kept.sum()} of {count} pictures only, and these "
                f"satisfy {judged.total_share:.0%} of all matches.",
            )
        solution = placed(judged.solution, self.network)
        support = _share(matches, solution.cameras)
        if before is not None and support < before + LEAST_GAIN:
            stayed = self._stay(
                "already-supported",
                f"The network's cameras satisfy {before:.0%} of the matches; refined ones "
                f"{support:.0%}.",
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
            network_support=before,
            reason=reason,
            sparse=sparse_points(solution, self.task.photographs),
            notes=_loose(judged),
            seconds=dict(self.seconds),
        )


def _loose(judged: Judged) -> tuple[Reason, ...]:
    """A note on the pictures that were left out as a group."""
    if not judged.loose:
        return ()
    pictures = ", ".join(map(str, sorted(judged.loose)))
    return (
        Reason(
            "weak-connection",
            f"The pictures {pictures} (counted from 0) fit each other, and too few matches hold "
            "them to the others: they keep the network's cameras. A picture that shows some of "
            "both groups helps.",
        ),
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
