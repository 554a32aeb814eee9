"""What calibration found, beside the artifact: `report.json`, `report.md` and `report.png`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from quantization.calibration.outliers import BIN_EDGES


def write(
    folder: Path, manifest: Mapping[str, Any], layers: Sequence[Mapping[str, Any]], seconds: float
) -> None:
    """Writes all three into `folder`. `layers` are `calibration.block.LayerRecord` as plain
    data."""
    document = {
        "recipe": manifest["recipe"],
        "calibration": manifest["calibration"],
        "provenance": manifest["provenance"],
        "bytes": manifest["files"],
        "seconds": round(seconds, 1),
        "layers": list(layers),
    }
    (folder / "report.json").write_text(json.dumps(document, indent=1) + "\n")
    (folder / "report.md").write_text(_table(document))
    draw(layers, folder / "report.png")


def _table(document: Mapping[str, Any]) -> str:
    calibration, layers = document["calibration"], document["layers"]
    size = sum(file["bytes"] for file in document["bytes"].values())
    lines = [
        f"# Calibration by recipe {document['recipe']['name']}",
        "",
        f"{len(calibration['samples'])} samples of {calibration['frames']} pictures from "
        f"{calibration['source']} "
        f"({calibration['split']}), chosen by {calibration['sampling']} out of "
        f"{calibration['candidates']}; "
        f"{len(layers)} layers, {size:,} bytes, {document['seconds']:.0f} s.",
        "",
        "Error: squared error of a layer's output over its variance in float, on calibration "
        "inputs, when weights and "
        "activations are rounded to nearest as they are, and by this recipe. Tail: kurtosis of the "
        "layer's inputs "
        "(3: normal), of special tokens and of patch tokens, before and after rotation and "
        "smoothing.",
        "",
        "| layer | scheme | nearest | recipe | tail, special | tail, patches | after, special | "
        "after, patches |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for layer in layers:
        errors, tails = layer["errors"], layer["inputs"]
        columns = ("special", "patches", "special_transformed", "patches_transformed")
        found = (
            ["-"] * 4
            if tails is None
            else [f"{tails[column]['kurtosis']:.1f}" for column in columns]
        )
        shown = [
            layer["name"],
            layer["scheme"],
            f"{errors['nearest']:.4f}",
            f"{errors['quantised']:.4f}",
            *found,
        ]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def draw(layers: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Errors of every layer before and after, and histograms of the inputs with the heaviest tail
    of each kind."""
    mpl.use("Agg")
    described = [layer for layer in layers if layer["inputs"] is not None]
    kinds = dict.fromkeys(_kind(layer) for layer in described)
    figure = Figure(figsize=(13, 8), layout="constrained")
    grid = figure.add_gridspec(2, max(1, len(kinds)))
    axes = figure.add_subplot(grid[0, :])
    places = np.arange(len(layers))
    for key, label, colour in (
        ("nearest", "rounded to nearest", "C1"),
        ("quantised", "this recipe", "C0"),
    ):
        axes.semilogy(
            places,
            [max(layer["errors"][key], 1e-6) for layer in layers],
            ".-",
            color=colour,
            label=label,
        )
    axes.set(
        title="relative squared error of each layer's output",
        xlabel="layer, in the order of the network",
    )
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    for column, kind in enumerate(kinds):
        panel = figure.add_subplot(grid[1, column])
        own = [layer for layer in described if _kind(layer) == kind]
        _histograms(panel, max(own, key=lambda layer: layer["inputs"]["patches"]["kurtosis"]))
    figure.savefig(path, dpi=110)


def _kind(layer: Mapping[str, Any]) -> str:
    """Which layer of its block it is, such as "mlp.fc1"."""
    return ".".join(layer["name"].split(".")[-2:])


def _histograms(axes: Axes, layer: Mapping[str, Any]) -> None:
    middles = [(low + high) / 2 for low, high in pairwise(BIN_EDGES)]
    for tokens, colour in (("special", "C3"), ("patches", "C0")):
        for suffix, style in (("", "--"), ("_transformed", "-")):
            shares = np.array(layer["inputs"][f"{tokens}{suffix}"]["histogram"])
            label = f"{tokens}, {'rotated and smoothed' if suffix else 'as they come'}"
            axes.semilogy(
                middles, np.maximum(shares, 1e-6), style, color=colour, label=label, linewidth=1
            )
    axes.set_title(layer["name"], fontsize=8)
    axes.set_xlabel("log2 of |x| / rms")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=7)
