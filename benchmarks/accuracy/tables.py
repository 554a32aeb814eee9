"""The figures as tables in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TITLES = {
    "methods": "Methods and bit widths",
    "parts": "What each part is worth (W4A4, 4 views)",
    "outliers": "The same function with outlier channels (W4A4, 4 views)",
    "sampling": "How calibration samples are chosen (W4A4, ours, 4 views)",
}
_HEADER = (
    "| views | network | AUC@30 | kept, % | AUC@15 | AUC@5 | kept, % | AUC@3 | AbsRel | points | "
    "camera turn, ° "
    "| depth change | point change |"
)


def write_tables(found: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Writes the tables of the sections in `found`."""
    parts = []
    for section, document in found.items():
        scenes = document["test"]["scenes"]
        parts += [f"## {_TITLES[section]}", "", f"`{document['command']}`", ""]
        if document["outliers"] is not None:
            share, strength = document["outliers"]["share"], document["outliers"]["strength"]
            parts += [
                f"{share:.0%} of all inputs of layers shifted by up to {strength:g} times the "
                "others' size.",
                "",
            ]
        parts += [_sampling(document) if section == "sampling" else _methods(document), ""]
        parts += [f"{scenes} test scenes; in brackets 95 % bootstrap intervals over scenes.", ""]
    heading = [
        "# Accuracy of the demo model, quantised",
        "",
        "Camera turn, depth change and point change are deviations from full precision on the same "
        "scenes.",
        "",
    ]
    path.write_text("\n".join([*heading, *parts]))


def _methods(document: Mapping[str, Any]) -> str:
    lines = [_HEADER, "|" + "---|" * (_HEADER.count("|") - 1)]
    results = document["results"]
    for views in sorted({v for result in results.values() for v in result["views"]}, key=int):
        first = next(
            result["views"][views] for result in results.values() if views in result["views"]
        )
        lines.append(_row(views, "full precision", first["full"], None, None))
        for name, result in results.items():
            if views in result["views"]:
                scores = result["views"][views]
                lines.append(
                    _row(views, name, scores["quantised"], scores["auc_kept"], scores["deviation"])
                )
    return "\n".join(lines)


def _row(
    views: str,
    name: str,
    scores: Mapping[str, Any],
    kept: Mapping[str, Any] | None,
    moved: Mapping[str, Any] | None,
) -> str:
    auc = {threshold: scores["auc"][threshold] for threshold in ("30", "15", "5", "3")}
    cells = [
        views,
        name,
        interval(auc["30"], 1),
        interval(kept and kept["30"], 1),
        interval(auc["15"], 1),
        interval(auc["5"], 1),
        interval(kept and kept["5"], 0),
        interval(auc["3"], 1),
        interval(scores["abs_rel"], 3),
        interval(scores["point_error"], 3),
        *(
            interval(moved and moved[key], digits)
            for key, digits in (("rotation_deg", 2), ("depth", 4), ("points", 4))
        ),
    ]
    return f"| {' | '.join(cells)} |"


def interval(found: Mapping[str, float] | None, digits: int) -> str:
    """Value and bounds, empty for None."""
    if found is None:
        return ""
    return f"{found['value']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def _sampling(document: Mapping[str, Any]) -> str:
    lines = [
        "| sampling | ruined samples drawn | camera turn, ° | depth change | point change |",
        "|---|---|---|---|---|",
    ]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for result in document["results"].values():
        groups.setdefault(result["sampling"], []).append(result)
    for name, results in groups.items():
        cells = [_spread([result["ruined_samples"] for result in results], 1)]
        for key, digits in (("rotation_deg", 3), ("depth", 5), ("points", 5)):
            cells.append(
                _spread(
                    [result["views"]["4"]["deviation"][key]["value"] for result in results], digits
                )
            )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "Mean ± standard deviation over the seeds of the draw."])


def _spread(values: list[float], digits: int) -> str:
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"
