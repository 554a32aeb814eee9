"""What an evaluation found: one record a scene, and figures over all scenes with their bootstrap
intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluation import bootstrap
from evaluation.bootstrap import Interval, Statistic
from evaluation.point_metrics import SurfaceErrors
from evaluation.pose_metrics import AUC_THRESHOLDS, pose_auc


@dataclass(frozen=True)
class SceneRecord:
    """Errors of one scene. A figure is None where its ground truth or the network's head is
    missing.

    Where the network failed (`failure` says how) every pair of frames still counts as wrong.
    """

    name: str
    category: str
    split: str
    views: int
    rotation_deg: tuple[float, ...]  # one a pair of frames, see `relative_pose_errors`
    translation_deg: tuple[float, ...]
    focal_error: float | None  # mean over frames of 1 - smaller / larger of both focal lengths
    abs_rel: float | None
    delta: float | None
    constant_abs_rel: float | None  # AbsRel of one depth everywhere
    point_error: float | None  # median over points / scene scale; unprojected depth
    point_head_error: float | None  # the same for the point head
    surface: SurfaceErrors | None  # in the unit of the true points
    failure: str | None

    def auc(self, threshold: int) -> float:
        """AUC@threshold in percent of this scene's own pairs."""
        return pose_auc(
            torch.tensor(self.rotation_deg), torch.tensor(self.translation_deg), threshold
        )


@dataclass(frozen=True)
class Example:
    """The first frame of a scene for the picture; predicted depth is already scaled to the
    truth."""

    name: str
    image: Tensor  # [3, H, W] in [0, 1]
    depth: Tensor  # [H, W]
    true_depth: Tensor  # [H, W], 0 = no ground truth


@dataclass(frozen=True)
class Report:
    """Figures of one network on one set of scenes. Angles in degrees, AUC in percent, the rest
    shares.

    `auc` is the mean over categories of the AUC of each category's pooled pairs; medians pool the
    pairs of all scenes; depth and point figures are means over the scenes that have them.
    """

    scenes: int
    views: tuple[int, ...]
    splits: tuple[str, ...]
    auc: Mapping[int, Interval]
    category_auc: Mapping[str, Mapping[int, Interval]]
    rotation_median: Interval
    translation_median: Interval
    focal_error: Interval | None
    abs_rel: Interval | None
    delta: Interval | None
    constant_abs_rel: Interval | None
    point_error: Interval | None
    point_head_error: Interval | None
    surface: Mapping[str, Interval] | None
    resamples: int
    bootstrap_seed: int
    missing_categories: tuple[str, ...]  # expected, but without a single scene
    skipped: tuple[tuple[str, str], ...]  # (scene, reason): not scored
    failures: tuple[tuple[str, str], ...]  # (scene, reason): scored as wrong
    records: tuple[SceneRecord, ...] = field(repr=False)
    examples: tuple[Example, ...] = field(default=(), repr=False, compare=False)

    def to_dict(self, *, records: bool = True) -> dict[str, Any]:
        """Plain data for JSON, without the example pictures and on request without the per-scene
        records."""
        result = {
            "scenes": self.scenes,
            "views": list(self.views),
            "splits": list(self.splits),
            "auc": {str(threshold): asdict(found) for threshold, found in self.auc.items()},
            "category_auc": {
                category: {str(threshold): asdict(found) for threshold, found in aucs.items()}
                for category, aucs in self.category_auc.items()
            },
            "surface": None
            if self.surface is None
            else {name: asdict(i) for name, i in self.surface.items()},
            "resamples": self.resamples,
            "bootstrap_seed": self.bootstrap_seed,
            "missing_categories": list(self.missing_categories),
            "skipped": [{"scene": name, "reason": reason} for name, reason in self.skipped],
            "failures": [{"scene": name, "reason": reason} for name, reason in self.failures],
        }
        for name in ("rotation_median", "translation_median", *_SCENE_FIGURES):
            found = getattr(self, name)
            result[name] = None if found is None else asdict(found)
        if records:
            result["records"] = [asdict(record) for record in self.records]
        return result


_SCENE_FIGURES = (
    "focal_error",
    "abs_rel",
    "delta",
    "constant_abs_rel",
    "point_error",
    "point_head_error",
)


def summarise(
    records: Sequence[SceneRecord],
    *,
    skipped: Sequence[tuple[str, str]] = (),
    expected_categories: Sequence[str] = (),
    examples: Sequence[Example] = (),
    resamples: int = bootstrap.RESAMPLES,
    seed: int = 0,
) -> Report:
    """Aggregate scene records. Raises ValueError, naming what was skipped, when there is none."""
    if not records:
        raise ValueError(
            "no scene was evaluated; skipped: "
            f"{[f'{name}: {why}' for name, why in skipped] or 'none'}"
        )
    categories = sorted({record.category for record in records})

    def per_scene(values: Sequence[float | None]) -> Interval | None:
        known = [
            (record.category, v) for record, v in zip(records, values, strict=True) if v is not None
        ]
        if not known:
            return None
        groups, present = zip(*known, strict=True)
        statistic = bootstrap.mean_over_scenes(present)
        return bootstrap.interval(
            statistic, len(present), groups=groups, resamples=resamples, seed=seed
        )

    def over_all(statistic: Statistic) -> Interval:
        groups = [record.category for record in records]
        return bootstrap.interval(
            statistic, len(records), groups=groups, resamples=resamples, seed=seed
        )

    def of_category(category: str, threshold: int) -> Interval:
        own = [record for record in records if record.category == category]
        return bootstrap.interval(
            _pooled_auc(own, threshold), len(own), resamples=resamples, seed=seed
        )

    surfaces = [None if record.surface is None else asdict(record.surface) for record in records]
    surface_names = next((tuple(s) for s in surfaces if s is not None), ())
    surface = {
        name: per_scene([None if s is None else s[name] for s in surfaces])
        for name in surface_names
    }
    return Report(
        scenes=len(records),
        views=tuple(sorted({record.views for record in records})),
        splits=tuple(sorted({record.split for record in records})),
        auc={threshold: over_all(mean_auc(records, threshold)) for threshold in AUC_THRESHOLDS},
        category_auc={
            category: {threshold: of_category(category, threshold) for threshold in AUC_THRESHOLDS}
            for category in categories
        },
        rotation_median=over_all(
            bootstrap.pooled_median([record.rotation_deg for record in records])
        ),
        translation_median=over_all(
            bootstrap.pooled_median([record.translation_deg for record in records])
        ),
        surface={name: found for name, found in surface.items() if found is not None} or None,
        resamples=resamples,
        bootstrap_seed=seed,
        missing_categories=tuple(sorted(set(expected_categories) - set(categories))),
        skipped=tuple(skipped),
        failures=tuple(
            (record.name, record.failure) for record in records if record.failure is not None
        ),
        records=tuple(records),
        examples=tuple(examples),
        **{
            name: per_scene([getattr(record, name) for record in records])
            for name in _SCENE_FIGURES
        },
    )


def _pooled_auc(records: Sequence[SceneRecord], threshold: int) -> Statistic:
    return bootstrap.pooled_mean(
        [record.auc(threshold) for record in records],
        [len(record.rotation_deg) for record in records],
    )


def mean_auc(records: Sequence[SceneRecord], threshold: int) -> Statistic:
    """Mean over categories of the AUC of each category's pooled pairs."""
    category = np.array([record.category for record in records])
    pooled = _pooled_auc(records, threshold)
    return bootstrap.mean_over_groups(
        [(np.flatnonzero(category == name), pooled) for name in np.unique(category)]
    )
