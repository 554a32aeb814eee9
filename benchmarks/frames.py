"""Draws speed and peak memory over the number of frames from what `memory` wrote.

    python -m benchmarks.frames benchmarks/results/cpu

Reads memory.json in that folder, writes frames.png beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

GIBIBYTE = 2**30


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    report = json.loads((args.folder / "memory.json").read_text())
    mpl.use("Agg")
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, figures in report["networks"].items():
        frames = [int(count) for count in figures["seconds"]]
        left.plot(frames, list(figures["seconds"].values()), marker="o", label=name)
        peaks = [peak / GIBIBYTE for peak in figures["peak_bytes"].values()]
        (line,) = right.plot(frames, peaks, marker="o", label=name)
        right.axhline(figures["weight_bytes"] / GIBIBYTE, linestyle=":", color=line.get_color())
    left.set(xlabel="frames", ylabel=f"seconds, {report['threads']} thread(s)", yscale="log")
    right.set(xlabel="frames", ylabel="peak resident memory, GiB (dotted: weights)", ylim=(0, None))
    counts = {count for figures in report["networks"].values() for count in figures["seconds"]}
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks([int(count) for count in counts], list(counts))
        axes.legend(fontsize=8)
    figure.suptitle(f"VGGT-1B, frames of 518x392 on {report['machine']['processor']}", fontsize=9)
    figure.savefig(args.folder / "frames.png", dpi=150)
    print(f"-> {args.folder / 'frames.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
