"""What a node needs: seconds and peak memory of the quantised VGGT-1B (random weights) by frames
and their size.

    python -m benchmarks.sizing --json benchmarks/results/cpu/sizing.json

Every size of frames has a process of its own, with more and more frames; the peak is that of the
whole process, interpreter and weights included, what building the network took excluded. "default"
is what an artifact does unless its recipe says more; "fast" adds 8-bit attention and bfloat16 dense
heads. Seconds are by the wall clock, of one pass with all the threads that are given, after one
over a single frame that pays for what is made once.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import torch

from benchmarks.random_network import random_network
from benchmarks.timing import arguments, machine, write
from quantization.recipe import Recipe
from service.inference.memory import PeakMemory

# 4:3, square, and 4:3 as the service cuts down what would be too much
SIZES = ("392x518", "518x518", "280x364")
NETWORKS = ("default", "fast")
MEBIBYTE = 2**20


def main() -> int:
    parser = arguments(__doc__)
    parser.set_defaults(threads=[torch.get_num_threads()])
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument(
        "--sizes", nargs="+", default=list(SIZES), metavar="HxW", help="pixels, multiples of 14"
    )
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    threads = args.threads[0]
    if args.one:
        return run(*args.one, sorted(args.frames), threads)
    report: dict[str, Any] = {"machine": machine(), "threads": threads, "networks": {}}
    for network in NETWORKS:
        sizes = report["networks"][network] = {}
        for size in args.sizes:
            print(f"{network}, {size} …", file=sys.stderr, flush=True)
            command = [
                sys.executable,
                "-m",
                "benchmarks.sizing",
                "--one",
                network,
                size,
                "--threads",
                str(threads),
            ]
            command += ["--frames", *map(str, args.frames)]
            finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            sizes[size] = json.loads(finished.stdout)
            write(args.json, report)
    print(table(report))
    return 0


def run(network: str, size: str, frames: list[int], threads: int) -> int:
    """Prints seconds and peak bytes by frames as JSON."""
    torch.set_grad_enabled(False)
    torch.set_num_threads(threads)
    height, width = map(int, size.split("x"))
    net = random_network(Recipe())
    if network == "fast":
        net.attention, net.dense_heads = "int8", "bfloat16"
    net(torch.rand(1, 3, height, width))
    measured, peak_memory = {}, PeakMemory("cpu")
    for count in frames:
        images = torch.rand(count, 3, height, width)
        with peak_memory.measured():  # the process's high-water mark begins anew here
            started = time.perf_counter()
            net(images)
            seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        measured[count] = {"seconds": round(seconds, 2), "peak_bytes": peak}
    print(json.dumps(measured))
    return 0


def table(report: dict[str, Any]) -> str:
    """The figures as Markdown: a row for each number of frames, "seconds / MiB" by network and
    size."""
    columns = [
        (f"{network}, {size}", figures)
        for network, sizes in report["networks"].items()
        for size, figures in sizes.items()
    ]
    lines = [
        "| frames | " + " | ".join(name for name, _ in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for frames in columns[0][1]:
        cells = [
            f"{row[frames]['seconds']:.1f} s / {row[frames]['peak_bytes'] / MEBIBYTE:,.0f} MiB"
            for _, row in columns
        ]
        lines.append(f"| {frames} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
