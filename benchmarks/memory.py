"""Peak resident memory of a forward pass of VGGT-1B (random weights) over the number of frames.

    python -m benchmarks.memory --json benchmarks/results/cpu/memory.json

Frames are 518x392 pixels. Each network runs in a process of its own, with more and more frames; the peak is that of the
whole process during the pass, interpreter and weights included, what building the network took excluded.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from typing import Any

import torch

from benchmarks.random_network import random_network
from benchmarks.timing import arguments, machine, write
from quantization.recipe import Recipe
from service.inference.memory import PeakMemory

HEIGHT, WIDTH = 392, 518
NETWORKS = ("float32", "quantised", "quantised, fast")
MEBIBYTE = 2**20


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--network", choices=NETWORKS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.network:
        return run(args.network, args.frames)
    report: dict[str, Any] = {"machine": machine(), "size": [HEIGHT, WIDTH], "networks": {}}
    for network in NETWORKS:
        print(f"{network} …", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "benchmarks.memory", "--network", network]
        command += ["--frames", *map(str, sorted(args.frames))]
        finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        report["networks"][network] = figures = json.loads(finished.stdout)
        peaks = ", ".join(f"{frames}: {peak / MEBIBYTE:,.0f}" for frames, peak in figures["peak_bytes"].items())
        print(f"{network:16} weights {figures['weight_bytes'] / MEBIBYTE:,.0f} MiB; peak MiB by frames {peaks}")
        write(args.json, report)
    return 0


def run(network: str, frames: list[int]) -> int:
    torch.set_grad_enabled(False)
    net = random_network(None if network == "float32" else Recipe())
    if network == "quantised, fast":
        net.attention, net.dense_heads = "int8", "bfloat16"
    peaks, peak = {}, PeakMemory("cpu")
    for count in frames:
        with peak.measured():  # the process's high-water mark begins anew here
            net(torch.rand(count, 3, HEIGHT, WIDTH))
        peaks[count] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    weights = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers()))
    print(json.dumps({"weight_bytes": weights, "peak_bytes": peaks}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
