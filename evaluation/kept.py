"""What a network keeps of another one's accuracy, figure by figure, with paired intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation import bootstrap
from evaluation.bootstrap import Interval, Statistic
from evaluation.pose_metrics import AUC_THRESHOLDS
from evaluation.report import Report, SceneRecord, mean_auc

Records = Sequence[SceneRecord]


@dataclass(frozen=True)
class Figure:
    """A figure over scenes: which scenes have it, how it is computed of them, and whether more of
    it is better. Else it is an error."""

    known: Callable[[SceneRecord], bool]
    statistic: Callable[[Records], Statistic]
    more_is_better: bool


def _auc(threshold: int) -> Figure:
    return Figure(lambda _: True, lambda records: mean_auc(records, threshold), True)


def _median(name: str) -> Figure:
    return Figure(
        lambda _: True,
        lambda records: bootstrap.pooled_median([getattr(record, name) for record in records]),
        False,
    )


def _mean(name: str, more_is_better: bool = False) -> Figure:
    return Figure(
        lambda record: getattr(record, name) is not None,
        lambda records: bootstrap.mean_over_scenes([getattr(record, name) for record in records]),
        more_is_better,
    )


FIGURES: Mapping[str, Figure] = {
    **{f"auc_{threshold}": _auc(threshold) for threshold in AUC_THRESHOLDS},
    "rotation_median": _median("rotation_deg"),
    "translation_median": _median("translation_deg"),
    "focal_error": _mean("focal_error"),
    "abs_rel": _mean("abs_rel"),
    "delta": _mean("delta", more_is_better=True),
    "point_error": _mean("point_error"),
    "point_head_error": _mean("point_head_error"),
}
"""By name; except for AUC@30 and so on they are called as in `Report`."""


def kept(reference: Report, other: Report) -> dict[str, Interval | None]:
    """Share in percent of the reference's accuracy that `other` keeps, for each of `FIGURES`.

    For an error it is the reference's error over that of `other`, so that less than 100 is worse in
    every figure. Both are drawn with the same resamples of the scenes: what is hard for both
    cancels, and the interval is that of the change. None where a figure is missing, or zero in what
    it is divided by, in all scenes or in a resample. Raises ValueError for reports of different
    scenes.
    """
    if [record.name for record in reference.records] != [record.name for record in other.records]:
        raise ValueError("both reports must cover the same scenes in the same order")
    return {name: _kept(reference, other, figure) for name, figure in FIGURES.items()}


def _kept(reference: Report, other: Report, figure: Figure) -> Interval | None:
    pairs = [
        pair
        for pair in zip(reference.records, other.records, strict=True)
        if all(figure.known(record) for record in pair)
    ]
    if not pairs:
        return None
    of_reference, of_other = (figure.statistic(side) for side in zip(*pairs, strict=True))
    above, below = (of_other, of_reference) if figure.more_is_better else (of_reference, of_other)

    def share(indices: bootstrap.Indices) -> bootstrap.Values:
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.true_divide(100.0 * above(indices), below(indices))
        return np.where(np.isfinite(shares), shares, np.nan)  # which makes the interval NaN, too

    found = bootstrap.interval(
        share,
        len(pairs),
        groups=[record.category for record, _ in pairs],
        resamples=reference.resamples,
        seed=reference.bootstrap_seed,
    )
    return found if np.isfinite([found.value, found.low, found.high]).all() else None
