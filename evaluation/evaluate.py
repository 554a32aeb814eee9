"""Run networks over scenes with ground truth: score one (`evaluate`), or two and what lies between
them (`compare`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluation import bootstrap
from evaluation.bootstrap import Interval
from evaluation.depth_metrics import constant_depth_errors, depth_errors
from evaluation.fairness import refuse_calibration_data
from evaluation.point_metrics import SurfaceErrors, icp, point_errors, scene_scale, surface_errors
from evaluation.pose_metrics import relative_pose_errors, relative_to_first
from evaluation.report import Example, Report, SceneRecord, summarise
from model.families.family import Geometry
from model.progress import track
from model.rotations import rotation_angle
from model.scene.geometry import unproject_depth
from model.scene.similarity import fit_points
from scenes.scene import Scene

Network = Callable[[Tensor], Geometry]
"""What is scored: frames [S, 3, H, W] of a scene -> cameras, depth, points, float64 on the CPU.

`model.reconstruct.geometry` makes one of any network.
"""

ICP_DISTANCE = 0.1  # of the scene scale: matches farther apart do not pull
SURFACE_POINTS = 20_000  # points of each cloud that enter the surface errors
EXAMPLES = 4  # scenes kept for the picture


@dataclass(frozen=True)
class SceneDeviation:
    """How far one network's answer lies from another's on one scene; None where either lacks the
    head or failed."""

    name: str
    category: str
    # mean over frames of the angle between the cameras, relative to the first camera
    rotation_deg: float | None
    # |t - t_reference| / |t_reference|, Frobenius over frames, relative to the first camera
    translation: float | None
    depth: float | None  # mean of |depth - reference| / |reference|, no alignment
    # median distance of unprojected points / mean reference distance from the first camera
    points: float | None


@dataclass(frozen=True)
class Deviation:
    """Means over scenes of `SceneDeviation`, with bootstrap intervals."""

    rotation_deg: Interval | None
    translation: Interval | None
    depth: Interval | None
    points: Interval | None
    records: tuple[SceneDeviation, ...] = field(repr=False)

    def to_dict(self, *, records: bool = True) -> dict[str, Any]:
        """Plain data for JSON, on request without the per-scene records."""
        result = asdict(self)
        return (
            result if records else {key: value for key, value in result.items() if key != "records"}
        )


@dataclass(frozen=True)
class Comparison:
    """Both networks against the truth, and against each other."""

    reference: Report
    other: Report
    deviation: Deviation


def evaluate(
    net: Network,
    scenes: Iterable[Scene],
    *,
    calibration_splits: Collection[str] = (),
    calibration_scenes: Collection[str] = (),
    expected_categories: Sequence[str] = (),
    skipped: Sequence[tuple[str, str]] = (),
    surface: bool = False,
    resamples: int = bootstrap.RESAMPLES,
    seed: int = 0,
    label: str = "evaluate",
) -> Report:
    """Score `net` on `scenes`, one scene a forward pass.

    `calibration_splits`, `calibration_scenes`: what an artifact was calibrated on, from its
    manifest; a scene of those raises ValueError. `expected_categories`: those without a scene are
    named in the report. `skipped`: (scene, reason) that the reader left out; scenes with fewer than
    two frames are added. `surface`: also ICP, accuracy, completeness and normal consistency
    (seconds a scene). `seed` draws the bootstrap and the surface points, never the scenes.
    """
    admitted = _Admission(calibration_splits, calibration_scenes, list(skipped))
    records: list[SceneRecord] = []
    examples: list[Example] = []
    for scene in admitted(track(scenes, label)):
        answer = _answer(net, scene)
        records.append(_score(scene, answer, surface=surface, seed=seed))
        if len(examples) < EXAMPLES:
            examples += _example(scene, answer)
    return summarise(
        records,
        skipped=admitted.skipped,
        expected_categories=expected_categories,
        examples=examples,
        resamples=resamples,
        seed=seed,
    )


def compare(
    reference: Network,
    other: Network,
    scenes: Iterable[Scene],
    *,
    calibration_splits: Collection[str] = (),
    calibration_scenes: Collection[str] = (),
    expected_categories: Sequence[str] = (),
    skipped: Sequence[tuple[str, str]] = (),
    surface: bool = False,
    resamples: int = bootstrap.RESAMPLES,
    seed: int = 0,
    label: str = "compare",
) -> Comparison:
    """Score both networks in one pass and measure how far `other` moved from `reference`.

    Arguments as in `evaluate`; the calibration data to refuse is that of either network.
    """
    admitted = _Admission(calibration_splits, calibration_scenes, list(skipped))
    records: tuple[list[SceneRecord], list[SceneRecord]] = ([], [])
    examples: tuple[list[Example], list[Example]] = ([], [])
    deviations = []
    for scene in admitted(track(scenes, label)):
        answers = _answer(reference, scene), _answer(other, scene)
        for found, pictures, answer in zip(records, examples, answers, strict=True):
            found.append(_score(scene, answer, surface=surface, seed=seed))
            if len(pictures) < EXAMPLES:
                pictures += _example(scene, answer)
        deviations.append(_deviation(scene, *answers))
    reports = [
        summarise(
            found,
            skipped=admitted.skipped,
            expected_categories=expected_categories,
            examples=pictures,
            resamples=resamples,
            seed=seed,
        )
        for found, pictures in zip(records, examples, strict=True)
    ]

    def mean(name: str) -> Interval | None:
        known = [(d.category, getattr(d, name)) for d in deviations if getattr(d, name) is not None]
        if not known:
            return None
        groups, values = zip(*known, strict=True)
        statistic = bootstrap.mean_over_scenes(values)
        return bootstrap.interval(
            statistic, len(values), groups=groups, resamples=resamples, seed=seed
        )

    deviation = Deviation(
        mean("rotation_deg"),
        mean("translation"),
        mean("depth"),
        mean("points"),
        records=tuple(deviations),
    )
    return Comparison(reports[0], reports[1], deviation)


@dataclass
class _Admission:
    """Refuses calibration data, sets aside scenes without a pair of frames."""

    calibration_splits: Collection[str]
    calibration_scenes: Collection[str]
    skipped: list[tuple[str, str]]

    def __call__(self, scenes: Iterable[Scene]) -> Iterator[Scene]:
        for scene in scenes:
            refuse_calibration_data(
                scene.name, scene.split, self.calibration_splits, self.calibration_scenes
            )
            if scene.images.shape[0] < 2:
                self.skipped.append((scene.name, "a relative pose needs at least 2 frames"))
                continue
            yield scene


@dataclass(frozen=True)
class _Answer:
    """A prediction for one scene: float64 on the CPU, no batch axis."""

    extrinsics: Tensor  # [S, 3, 4]
    intrinsics: Tensor  # [S, 3, 3]
    depth: Tensor | None  # [S, H, W]
    points: Tensor | None  # [S, H, W, 3] unprojected depth, predicted world frame
    head_points: Tensor | None  # [S, H, W, 3] from the point head
    failure: str | None


def _answer(net: Network, scene: Scene) -> _Answer:
    said = net(scene.images)
    extrinsics, intrinsics, depth = said.extrinsics, said.intrinsics, said.depth
    if extrinsics is None or intrinsics is None:
        raise ValueError("the network has no camera head; evaluation scores its poses")
    points = None if depth is None else unproject_depth(depth, extrinsics, intrinsics)
    outputs = {
        "cameras": extrinsics,
        "depth": depth,
        "unprojected depth": points,
        "point head": said.points,
    }
    broken = [
        name
        for name, value in outputs.items()
        if value is not None and not bool(value.isfinite().all())
    ]
    if broken:
        return _Answer(
            torch.full_like(extrinsics, torch.nan),
            torch.full_like(intrinsics, torch.nan),
            None,
            None,
            None,
            f"not finite: {', '.join(broken)}",
        )
    return _Answer(extrinsics, intrinsics, depth, points, said.points, None)


def _score(scene: Scene, answer: _Answer, *, surface: bool, seed: int) -> SceneRecord:
    rotation, translation = relative_pose_errors(answer.extrinsics, scene.extrinsics)
    mask = None if scene.depth is None else scene.depth.isfinite() & (scene.depth > 0)
    abs_rel = delta = constant = point_error = head_error = found_surface = None
    if scene.depth is not None and mask is not None and bool(mask.any()):
        camera, true_points = scene.extrinsics[0], scene.world_points[mask]
        constant = constant_depth_errors(scene.depth).abs_rel
        if answer.depth is not None:
            errors = depth_errors(answer.depth, scene.depth)
            abs_rel, delta = errors.abs_rel, errors.delta
        if answer.points is not None:
            point_error = point_errors(answer.points[mask], true_points, camera).median
            if surface:
                found_surface = _surface(answer.points[mask], true_points, camera, seed)
        if answer.head_points is not None:
            head_error = point_errors(answer.head_points[mask], true_points, camera).median
    return SceneRecord(
        name=scene.name,
        category=scene.category,
        split=scene.split,
        views=scene.images.shape[0],
        rotation_deg=tuple(rotation.tolist()),
        translation_deg=tuple(translation.tolist()),
        focal_error=None if answer.failure else _focal_error(answer.intrinsics, scene.intrinsics),
        abs_rel=abs_rel,
        delta=delta,
        constant_abs_rel=constant,
        point_error=point_error,
        point_head_error=head_error,
        surface=found_surface,
        failure=answer.failure,
    )


def _focal_error(predicted: Tensor, true: Tensor) -> float:
    """Mean over frames and both axes of 1 - smaller / larger focal length; intrinsics `[S, 3, 3]`.

    At most 1, whatever a network says.
    """
    found, wanted = (k.double().diagonal(dim1=-2, dim2=-1)[:, :2] for k in (predicted, true))
    share = torch.minimum(found, wanted) / torch.maximum(found, wanted)
    return float((1 - share).clamp(max=1).mean())


def _surface(predicted: Tensor, true: Tensor, camera: Tensor, seed: int) -> SurfaceErrors:
    """Umeyama over correspondences, then ICP and surface errors on independent random subsets of
    both clouds."""
    generator = np.random.default_rng(seed)

    def subset(cloud: Tensor) -> Tensor:
        kept = generator.permutation(len(cloud))[:SURFACE_POINTS]
        return cloud[torch.from_numpy(kept)].double()

    aligned, sample = subset(fit_points(predicted, true).move_points(predicted)), subset(true)
    motion = icp(aligned, sample, max_distance=ICP_DISTANCE * scene_scale(true, camera))
    return surface_errors(motion.move_points(aligned), sample)


def _deviation(scene: Scene, reference: _Answer, other: _Answer) -> SceneDeviation:
    rotation = translation = depth = points = None
    if reference.failure is None and other.failure is None:
        a, b = (relative_to_first(answer.extrinsics) for answer in (reference, other))
        rotation = float(rotation_angle(a[1:, :, :3], b[1:, :, :3]).mean())
        length = float(a[..., 3].norm())
        translation = float((a[..., 3] - b[..., 3]).norm()) / length if length > 0 else None
        if reference.depth is not None and other.depth is not None:
            depth = float(
                (
                    (other.depth - reference.depth).abs() / reference.depth.abs().clamp(min=1e-12)
                ).mean()
            )
        if reference.points is not None and other.points is not None:
            scale = scene_scale(reference.points.flatten(0, -2), reference.extrinsics[0])
            points = (
                float(np.median((other.points - reference.points).norm(dim=-1).numpy())) / scale
            )
    return SceneDeviation(scene.name, scene.category, rotation, translation, depth, points)


def _example(scene: Scene, answer: _Answer) -> list[Example]:
    if scene.depth is None or answer.depth is None or not bool((scene.depth > 0).any()):
        return []
    scale = depth_errors(answer.depth, scene.depth).scale
    return [
        Example(scene.name, scene.images[0].cpu(), answer.depth[0] * scale, scene.depth[0].cpu())
    ]
