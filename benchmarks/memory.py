"""Peak resident memory and seconds of a forward pass of VGGT-1B (random weights) over the number of
frames.

    python -m benchmarks.memory --json benchmarks/results/cpu/memory.json

Writes a figure beside the JSON file. Frames are 518x392 pixels. Each network runs in a process of
its own, with more and more frames, one pass each; the peak is that of the whole process during the
pass, interpreter and weights included, what building the network took excluded. For ratios of times
see `network`, which measures in turn.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure

from benchmarks.random_network import random_network
from benchmarks.timing import arguments, machine, write
from quantization.recipe import Recipe
from service.inference.memory import PeakMemory

HEIGHT, WIDTH = 392, 518
NETWORKS = ("quantised, fast", "quantised", "float32")  # the slowest last
MEBIBYTE, GIBIBYTE = 2**20, 2**30


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--network", choices=NETWORKS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    threads = max(args.threads)
    if args.network:
        return run(args.network, args.frames, threads)
    report: dict[str, Any] = {
        "machine": machine(),
        "size": [HEIGHT, WIDTH],
        "threads": threads,
        "networks": {},
    }
    for network in NETWORKS:
        print(network)
        figures: dict[str, Any] = {"peak_bytes": {}, "seconds": {}}
        report["networks"][network] = figures
        command = [
            sys.executable,
            "-m",
            "benchmarks.memory",
            "--network",
            network,
            "--threads",
            str(threads),
        ]
        command += ["--frames", *map(str, sorted(args.frames))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                found = json.loads(line)
                frames, peak, seconds = str(found["frames"]), found["peak_bytes"], found["seconds"]
                figures["weight_bytes"] = found["weight_bytes"]
                figures["peak_bytes"][frames], figures["seconds"][frames] = peak, seconds
                print(
                    f"  {frames:>2} frame(s): {peak / MEBIBYTE:9,.0f} MiB {seconds:9.2f} s",
                    flush=True,
                )
                write(args.json, report)
        if process.returncode:
            return process.returncode
    if args.json:
        _draw(report, args.json.with_suffix(".png"))
    return 0


def run(network: str, frames: list[int], threads: int) -> int:
    """Measures one network in this process, a line of JSON for each number of frames."""
    torch.set_grad_enabled(False)
    torch.set_num_threads(threads)
    net = random_network(None if network == "float32" else Recipe())
    if network == "quantised, fast":
        net.attention, net.dense_heads = "int8", "bfloat16"
    weights = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers()))
    net(torch.rand(1, 3, HEIGHT, WIDTH))  # pays for what is made once
    peak = PeakMemory("cpu")
    for count in frames:
        images = torch.rand(count, 3, HEIGHT, WIDTH)
        with peak.measured():  # the process's high-water mark begins anew here
            started = time.perf_counter()
            net(images)
            seconds = time.perf_counter() - started
        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        figures = {
            "weight_bytes": weights,
            "frames": count,
            "peak_bytes": highest,
            "seconds": round(seconds, 3),
        }
        print(json.dumps(figures), flush=True)
    return 0


def _draw(report: dict[str, Any], path: Path) -> None:
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
    figure.savefig(path, dpi=150)
    print(f"-> {path}")


if __name__ == "__main__":
    sys.exit(main())
