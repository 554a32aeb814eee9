"""Reports as aligned text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evaluation.bootstrap import Interval
from evaluation.columns import right_aligned
from evaluation.evaluate import Deviation
from evaluation.pose_metrics import AUC_THRESHOLDS
from evaluation.report import Report

_COLUMNS = {
    **{f"auc_{limit}": (f"AUC@{limit}", 1) for limit in AUC_THRESHOLDS},
    "rotation_median": ("rot", 1),
    "translation_median": ("trans", 1),
    "focal_error": ("focal", 3),
    "abs_rel": ("AbsRel", 3),
    "constant_abs_rel": ("constant", 3),
    "delta": ("δ<1.25", 3),
    "point_error": ("points", 3),
    "point_head_error": ("point head", 3),
}
"""Title and digits of each figure, by its name in `evaluation.kept`."""
_LEGEND = (
    "Second lines: 95 % bootstrap intervals over scenes. rot, trans: median error of a pair in "
    "degrees. focal: mean error of the focal length, as a share.",
    "constant: AbsRel of one depth everywhere. points: median error / scene scale after alignment.",
)
_KEPT_LEGEND = (
    "kept, %: of the reference's AUC and δ<1.25, or the reference's error over this one's, paired "
    "by scene; below 100 is worse."
)


@dataclass(frozen=True)
class Row:
    """One network at one number of views; `kept` and `deviation` where there is a reference."""

    views: str
    name: str
    report: Report
    kept: Mapping[str, Interval | None] | None = None
    deviation: Deviation | None = None


def table(rows: Sequence[Row]) -> str:
    """Figures, below them the intervals, then what changed and what went wrong."""
    lines = [["views", "model", *(title for title, _ in _COLUMNS.values())]]
    for row in rows:
        figures = {name: _figure(row.report, name) for name in _COLUMNS}
        lines += _lines(row.views, row.name, figures, {n: d for n, (_, d) in _COLUMNS.items()})
        if row.kept is not None:
            lines += _lines("", "kept, %", row.kept, dict.fromkeys(_COLUMNS, 1))
    text = right_aligned(lines)
    text += _LEGEND
    if any(row.kept is not None for row in rows):
        text.append(_KEPT_LEGEND)
    text += [_moved(row, row.deviation) for row in rows if row.deviation is not None]
    return "\n".join([*text, *(note for row in rows for note in _notes(row))])


def _figure(report: Report, name: str) -> Interval | None:
    if name.startswith("auc_"):
        return report.auc[int(name.removeprefix("auc_"))]
    found: Interval | None = getattr(report, name)
    return found


def _lines(
    views: str, name: str, figures: Mapping[str, Interval | None], digits: Mapping[str, int]
) -> list[list[str]]:
    shown = [(figures.get(column), digits[column]) for column in _COLUMNS]
    return [
        [views, name, *(_value(found, places) for found, places in shown)],
        ["", "", *(_range(found, places) for found, places in shown)],
    ]


def _moved(row: Row, deviation: Deviation) -> str:
    units = {"rotation_deg": " degrees", "translation": "", "depth": "", "points": ""}
    parts = []
    for name, unit in units.items():
        found: Interval | None = getattr(deviation, name)
        if found is not None:
            parts.append(f"{name.removesuffix('_deg')} {found.value:.3g}{unit}")
    moved = ", ".join(parts) or "unknown"
    return f"{row.views} views, {row.name}: deviation from the reference: {moved}"


def _notes(row: Row) -> Iterator[str]:
    head = f"{row.views} views, {row.name}"
    for title, items in (("failed", row.report.failures), ("skipped", row.report.skipped)):
        yield from (f"{head}: {title}: {scene} ({reason})" for scene, reason in items)
    for missing in row.report.missing_categories:
        yield f"{head}: no scene of category {missing}"
    for quantity, found in (row.report.surface or {}).items():
        yield f"{head}: {quantity} {_value(found, 4)} [{_range(found, 4)}]"


def _value(found: Interval | None, digits: int) -> str:
    return "-" if found is None else f"{found.value:.{digits}f}"


def _range(found: Interval | None, digits: int) -> str:
    return "" if found is None else f"{found.low:.{digits}f}-{found.high:.{digits}f}"
