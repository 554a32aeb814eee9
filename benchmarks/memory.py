"""Peak resident memory and seconds of a forward pass of VGGT-1B (random weights) over the number of
frames.

    python -m benchmarks.memory --json benchmarks/results/cpu/memory.json

Frames are 518x392 pixels. Each network runs in a process of its own, with more and more frames, one
pass each; the peak is that of the whole process during the pass, interpreter and weights included,
what building the network took excluded. For ratios of times see `network`, which measures in turn.
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

HEIGHT, WIDTH = 392, 518
NETWORKS = ("quantised, fast", "quantised", "float32")  # the slowest last
MEBIBYTE = 2**20


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


if __name__ == "__main__":
    sys.exit(main())
