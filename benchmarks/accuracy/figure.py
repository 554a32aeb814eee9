"""The figures as one picture: deviation from full precision at 4 views, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

_TITLES = {"methods": "methods", "parts": "parts", "outliers": "with outlier channels"}
_MEASURES = {
    "rotation_deg": "camera turn, degrees",
    "depth": "depth change",
    "points": "point change",
}


def draw(found: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """One row of panels a section; the sampling's spread stands in its table only."""
    mpl.use("Agg")
    sections = [name for name in _TITLES if name in found]
    if not sections:
        return
    counts = [len(found[name]["results"]) for name in sections]
    figure = Figure(figsize=(13, 0.3 * sum(counts) + 1.2 * len(counts)), layout="constrained")
    grid = figure.add_gridspec(
        len(sections), len(_MEASURES), height_ratios=[count + 2 for count in counts]
    )
    for row, section in enumerate(sections):
        moved = {
            name: result["views"]["4"]["deviation"]
            for name, result in found[section]["results"].items()
        }
        for column, (key, title) in enumerate(_MEASURES.items()):
            panel = figure.add_subplot(grid[row, column])
            values = [deviation[key]["value"] for deviation in moved.values()]
            low = [deviation[key]["value"] - deviation[key]["low"] for deviation in moved.values()]
            high = [
                deviation[key]["high"] - deviation[key]["value"] for deviation in moved.values()
            ]
            panel.errorbar(
                values, range(len(moved)), xerr=(low, high), fmt="o", color=f"C{row}", markersize=4
            )
            panel.set_yticks(
                range(len(moved)), list(moved) if column == 0 else [""] * len(moved), fontsize=8
            )
            panel.set_title(f"{_TITLES[section]}: {title}", fontsize=9)
            if section == "outliers":  # from a tenth of a degree to a coin toss
                panel.set_xscale("log")
                panel.xaxis.set_major_formatter("{x:g}")
                panel.xaxis.set_minor_formatter(NullFormatter())
            else:
                panel.set_xlim(left=0)
            panel.grid(alpha=0.3)
            panel.invert_yaxis()
    figure.suptitle("deviation from full precision at 4 views (95 % intervals)", fontsize=10)
    figure.savefig(path, dpi=110)
