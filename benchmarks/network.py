"""A whole forward pass of VGGT-1B (random weights) on this CPU: float networks against the quantised one.

    python -m benchmarks.network --json benchmarks/results/cpu/network.json

Frames are 518x392 pixels. The float networks are this project's own (its dense heads are faster than the public ones:
channels last, position codes per axis, a 1x1 convolution before the resize); bfloat16 is torch's autocast with the
dense heads in bfloat16 too. The quantised network is measured with its linear layers alone, then with 8-bit attention,
then with bfloat16 dense heads as well. "parts" are the seconds of one pass of the last.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.random_network import random_network
from benchmarks.timing import Call, arguments, compare, machine, table, write
from model import VGGT
from quantization.recipe import Recipe

HEIGHT, WIDTH = 392, 518
PARTS = ("aggregator.patch_embed", "aggregator", "camera_head", "depth_head", "point_head")


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 2, 4])
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    print("building …", file=sys.stderr)
    float_net, net = random_network(None), random_network(Recipe())
    report: dict[str, Any] = {"machine": machine(), "size": [HEIGHT, WIDTH], "threads": {}}
    report["weight_bytes"] = {"float32": _bytes(float_net), "quantised": _bytes(net)}
    for threads in args.threads:
        torch.set_num_threads(threads)
        rows_of = report["threads"][str(threads)] = {}
        for frames in args.frames:
            images = torch.rand(frames, 3, HEIGHT, WIDTH)
            rows = compare(candidates(float_net, net, images), args.rounds, warm_up=False)
            table(f"{frames} frame(s), {threads} thread(s)", rows)
            rows_of[str(frames)] = {"candidates": rows, "parts": parts(net, images)}
            print("  seconds by part:", rows_of[str(frames)]["parts"])
            write(args.json, report)
    return 0


def _bytes(net: VGGT) -> int:
    return sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers()))


def candidates(float_net: VGGT, net: VGGT, images: Tensor) -> dict[str, Call]:
    """Forward passes of the same pictures, the float32 network first."""

    def passing(network: VGGT, attention: str, dense_heads: str, autocast: bool = False) -> Call:
        def call() -> None:
            network.attention, network.dense_heads = attention, dense_heads
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                network(images)

        return call

    return {
        "float32": passing(float_net, "float", "float32"),
        "bfloat16": passing(float_net, "float", "bfloat16", autocast=True),
        "quantised linears": passing(net, "float", "float32"),
        "and 8-bit attention": passing(net, "int8", "float32"),
        "and bfloat16 heads": passing(net, "int8", "bfloat16"),
    }


def parts(net: VGGT, images: Tensor) -> dict[str, float]:
    """Seconds that each part of one forward pass takes; the image encoder is a part of the aggregator."""
    seconds: dict[str, float] = {}
    with _timed({name: net.get_submodule(name) for name in PARTS}, seconds):
        net(images)
    return {name: round(value, 3) for name, value in seconds.items()}


@contextmanager
def _timed(modules: dict[str, nn.Module], seconds: dict[str, float]) -> Iterator[None]:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    handles = []
    for name, module in modules.items():

        def start(*_: object, name: str = name) -> None:
            seconds[name] = -clock()

        def stop(*_: object, name: str = name) -> None:
            seconds[name] += clock()

        handles += [module.register_forward_pre_hook(start), module.register_forward_hook(stop)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


if __name__ == "__main__":
    sys.exit(main())
