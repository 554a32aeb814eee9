"""Draws speed and peak memory over the number of frames from what `network` and `memory` wrote.

    python -m benchmarks.frames benchmarks/results/cpu

Reads network.json and memory.json in that folder, writes frames.png beside them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

GIBIBYTE = 2**30


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    network, memory = (json.loads((args.folder / f"{name}.json").read_text()) for name in ("network", "memory"))
    mpl.use("Agg")
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_seconds(left, network)
    draw_memory(right, memory)
    figure.suptitle(f"VGGT-1B, frames of 518x392 on {network['machine']['processor']}", fontsize=9)
    figure.savefig(args.folder / "frames.png", dpi=150)
    print(f"-> {args.folder / 'frames.png'}")
    return 0


def draw_seconds(axes: Axes, report: dict[str, Any]) -> None:
    """Seconds of a forward pass by network, with the number of threads that was measured at most numbers of frames."""
    threads, by_frames = max(report["threads"].items(), key=lambda measured: len(measured[1]))
    frames = sorted(map(int, by_frames))
    for name in by_frames[str(frames[0])]["candidates"]:
        seconds = [by_frames[str(count)]["candidates"][name]["milliseconds"] / 1e3 for count in frames]
        axes.plot(frames, seconds, marker="o", label=name)
    axes.set(xlabel="frames", ylabel=f"seconds, {threads} thread(s)", xticks=frames, ylim=(0, None))
    axes.legend(fontsize=8)


def draw_memory(axes: Axes, report: dict[str, Any]) -> None:
    """Peak resident memory by network; dotted: its weights."""
    for name, figures in report["networks"].items():
        peaks = {int(frames): peak / GIBIBYTE for frames, peak in figures["peak_bytes"].items()}
        (line,) = axes.plot(list(peaks), list(peaks.values()), marker="o", label=name)
        axes.axhline(figures["weight_bytes"] / GIBIBYTE, linestyle=":", color=line.get_color())
    axes.set(xlabel="frames", ylabel="peak resident memory, GiB (dotted: weights)", ylim=(0, None))
    axes.legend(fontsize=8)


if __name__ == "__main__":
    sys.exit(main())
