"""One picture of an evaluation: scatter a scene, error histogram with its cumulative curve, depth
examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from evaluation.report import Example, Report

HISTOGRAM_DEG = 60  # the histogram's last bin collects what lies beyond
AUC_DEG = 30


def draw(reports: Mapping[str, Report], path: Path | str) -> Path:
    """Draw labelled reports (e.g. one a number of views) into one PNG at `path`; returns the path.

    Depth examples come from the first report that has some. Raises ValueError for no report.
    """
    if not reports:
        raise ValueError("nothing to draw: no report was given")
    path = Path(path)
    examples: Sequence[Example] = next(
        (report.examples for report in reports.values() if report.examples), ()
    )
    figure = Figure(figsize=(12, 4.6 + 2.0 * 3 * bool(examples)), layout="constrained")
    FigureCanvasAgg(figure)
    grids = (
        figure.add_gridspec(2, 1, height_ratios=[4.6, 6.0])
        if examples
        else figure.add_gridspec(1, 1)
    )
    scatter, histogram = grids[0].subgridspec(1, 2).subplots(squeeze=False)[0]
    colours = colormaps["tab10"]
    for index, (label, report) in enumerate(reports.items()):
        colour = colours(index % colours.N)
        _scatter(scatter, label, report, colour)
        _histogram(histogram, label, report, colour)
    scatter.set(
        xscale="symlog",
        yscale="symlog",
        xlim=(0, 180),
        ylim=(0, 90),
        xlabel="rotation error, median of the scene's pairs (deg)",
        ylabel="translation direction error (deg)",
        title="one point a scene",
    )
    for axis in (scatter.xaxis, scatter.yaxis):
        axis.set_major_formatter("{x:g}")
    histogram.set(
        xlim=(0, HISTOGRAM_DEG),
        ylim=(0, 100),
        xlabel=f"larger of both errors of a pair (deg); beyond {HISTOGRAM_DEG} in the last bin",
        ylabel="pairs (%)",
        title=f"bars: pairs per degree, curve: pairs within; AUC@{AUC_DEG}: mean of the curve left "
        "of the line",
    )
    histogram.title.set_fontsize(9)
    histogram.axvline(AUC_DEG, color="grey", linewidth=0.8, linestyle=":")
    scatter.legend(fontsize=8)
    histogram.legend(fontsize=8)
    if examples:
        _strip(grids[1].subgridspec(3, len(examples)).subplots(squeeze=False), examples)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return path


def _scatter(axes: Any, label: str, report: Report, colour: Any) -> None:
    rotation = [float(np.median(record.rotation_deg)) for record in report.records]
    translation = [min(90.0, float(np.median(record.translation_deg))) for record in report.records]
    axes.scatter(rotation, translation, s=10, alpha=0.6, color=colour, label=label, linewidths=0)


def _histogram(axes: Any, label: str, report: Report, colour: Any) -> None:
    error = np.concatenate(
        [np.maximum(record.rotation_deg, record.translation_deg) for record in report.records]
    )
    counts, edges = np.histogram(
        np.minimum(error, HISTOGRAM_DEG), bins=HISTOGRAM_DEG, range=(0, HISTOGRAM_DEG)
    )
    share = 100.0 * counts / len(error)
    axes.bar(edges[:-1], share, width=1.0, align="edge", color=colour, alpha=0.35)
    found = report.auc[AUC_DEG]
    curve = f"{label}: AUC@{AUC_DEG} {found.value:.1f} [{found.low:.1f}, {found.high:.1f}]"
    # not from the counts: those include what lies beyond
    within = [100.0 * np.mean(error <= edge) for edge in edges]
    axes.plot(edges, within, color=colour, label=curve)


def _strip(axes: Any, examples: Sequence[Example]) -> None:
    for column, example in zip(axes.T, examples, strict=True):
        true = np.where(example.true_depth.numpy() > 0, example.true_depth.numpy(), np.nan)
        low, high = np.nanpercentile(true, [1, 99]) if np.isfinite(true).any() else (0.0, 1.0)
        column[0].imshow(example.image.permute(1, 2, 0).clamp(0, 1).numpy())
        column[1].imshow(example.depth.numpy(), vmin=low, vmax=high, cmap="turbo")
        column[2].imshow(true, vmin=low, vmax=high, cmap="turbo")
        column[0].set_title(example.name, fontsize=7)
        for axis in column:
            axis.set(xticks=[], yticks=[])
    for axis, name in zip(axes[:, 0], ("input", "predicted depth", "true depth"), strict=True):
        axis.set_ylabel(name)
