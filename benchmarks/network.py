"""A whole forward pass of VGGT-1B (random weights) on this CPU: float networks against the
quantised one.

    python -m benchmarks.network --json benchmarks/results/cpu/network.json

Frames are 518x392 pixels. The float networks are this project's own (its dense heads are faster
than the public ones: channels last, position codes per axis, a 1x1 convolution before the resize);
bfloat16 is torch's autocast with the dense heads in bfloat16 too. The quantised network is measured
with its linear layers alone, then with 8-bit attention, then with bfloat16 dense heads as well.
"parts" are the seconds of one pass of the last. "transform" is what rotation and smoothing take in
all layers of a pass, in seconds and as shares of each quantised network's time, as the QuantVGGT
paper counts them.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.random_network import random_network
from benchmarks.timing import Call, arguments, compare, machine, table, write
from kernels import QuantizedLinear, ops
from model import VGGT
from quantization.recipe import Recipe

HEIGHT, WIDTH = 392, 518
QUANTISED = ("quantised linears", "and 8-bit attention", "and bfloat16 heads")
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
            rows_of[str(frames)] = {
                "candidates": rows,
                "parts": parts(net, images),
                "transform": transform(net, images, rows),
            }
            print("  seconds by part:", rows_of[str(frames)]["parts"])
            print("  rotation and smoothing:", rows_of[str(frames)]["transform"])
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
    } | {
        name: passing(net, *arithmetic)
        for name, arithmetic in zip(
            QUANTISED,
            (("float", "float32"), ("int8", "float32"), ("int8", "bfloat16")),
            strict=True,
        )
    }


def parts(net: VGGT, images: Tensor) -> dict[str, float]:
    """Seconds that each part of one forward pass takes; the image encoder is a part of the
    aggregator."""
    seconds: dict[str, float] = {}
    with _timed({name: net.get_submodule(name) for name in PARTS}, seconds):
        net(images)
    return {name: round(value, 3) for name, value in seconds.items()}


def transform(net: VGGT, images: Tensor, rows: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The prologue of every layer of a pass with and without rotation and smoothing, on tokens of
    the same shape."""
    calls: Counter[tuple[int, int, int]] = Counter()

    def count(layer: QuantizedLinear, given: tuple[Tensor]) -> None:
        calls[
            given[0].numel() // layer.in_features, layer.in_features, layer.format.activation_bits
        ] += 1

    layers = [module for module in net.modules() if isinstance(module, QuantizedLinear)]
    handles = [layer.register_forward_pre_hook(count) for layer in layers]
    net(images)
    for handle in handles:
        handle.remove()
    seconds = sum(number * _transform_seconds(*shape) for shape, number in calls.items())
    shares = {
        name: seconds / row["milliseconds"] * 1e3 for name, row in rows.items() if name in QUANTISED
    }
    return {
        "seconds": round(seconds, 4),
        "shares": {name: round(share, 4) for name, share in shares.items()},
    }


def _transform_seconds(tokens: int, features: int, bits: int) -> float:
    x = torch.randn(tokens, features)
    transforms = {
        "signs": (2 * torch.randint(0, 2, (features,)) - 1).to(torch.int8),
        "smoothing": torch.rand(features) + 0.5,
    }
    taken = compare(
        {
            "with": lambda: ops.quantize_rows(x, bits=bits, **transforms),
            "without": lambda: ops.quantize_rows(x, bits=bits),
        },
        rounds=25,
    )
    return (taken["with"]["fastest_milliseconds"] - taken["without"]["fastest_milliseconds"]) / 1e3


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
