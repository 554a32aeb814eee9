"""Speed on a GPU: quantised layers and the whole VGGT-1B, against what a sceptic would run instead.

    python -m benchmarks.gpu                          # all, to benchmarks/results/<device>/gpu.json
    python -m benchmarks.gpu --parts linear heads     # without the network

All candidates for a shape are timed in turn, in every round of one run; a figure is the median over
rounds with the quartiles beside it. On a GPU calls are captured in a CUDA graph first, so that
Python's own time is in none of them. Weights are random. `--device cpu` runs the same program
without a GPU, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import FORMATS, QuantizedLinear, kernel_path, ops, reference

RESULTS = Path(__file__).parent / "results"
LAYERS = {"qkv": (1024, 3072), "proj": (1024, 1024), "fc1": (1024, 4096), "fc2": (4096, 1024)}
TOKENS_PER_FRAME = 1041  # 37 x 28 patches and 5 special tokens
SIZE = (392, 518)  # pixels
HEADS, HEAD_WIDTH = 16, 64


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/<device>/gpu.json")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("torch sees no GPU; nothing was measured", file=sys.stderr)
        return 2
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    report: dict[str, Any] = {
        "device": name,
        "kernels": str(kernel_path(device)),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "commit": commit_or_none(),
        "command": "python -m benchmarks.gpu " + " ".join(sys.argv[1:]),
    }
    print(json.dumps(report, indent=1))
    for part in args.parts:
        rows = []
        for row in PARTS[part](args.frames, device, args.rounds):
            rows.append(row)
            print(format_row(part, row), flush=True)
        report[part] = rows
    out = args.out or RESULTS / re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") / "gpu.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"-> {out}")
    return 0


def commit_or_none() -> str | None:
    """The commit of this code; None where what the offline side needs is not installed."""
    try:
        from model.files.provenance import commit
    except ImportError:
        return None
    return commit()


def format_row(part: str, row: dict[str, Any]) -> str:
    figures = ", ".join(
        f"{name} {timing['median_us']:,.1f}" for name, timing in row["timings"].items()
    )
    return f"{part} {row['what']}, {row['frames']} frames [µs]: {figures}"


def measure(
    candidates: dict[str, Callable[[], Any]], device: torch.device, rounds: int
) -> dict[str, Any]:
    """Median and quartiles of the time of one call of each candidate, in microseconds."""
    runs = {name: captured(call, device) for name, call in candidates.items()}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            samples[name].append(timed(run, device))
    quartiles = {name: statistics.quantiles(values, n=4) for name, values in samples.items()}
    return {
        name: {"median_us": statistics.median(samples[name]), "quartiles_us": [low, high]}
        for name, (low, _, high) in quartiles.items()
    }


def captured(call: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """`call` warmed up and, on a GPU, captured in a graph."""
    with torch.inference_mode():
        call()
        if device.type != "cuda":
            return call
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(2):
                call()
        torch.cuda.current_stream(device).wait_stream(side)
        torch.cuda.synchronize(device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        return graph.replay


def timed(run: Callable[[], Any], device: torch.device, repeats: int = 4) -> float:
    """Microseconds of one run, averaged over a few in a row."""
    with torch.inference_mode():
        if device.type != "cuda":
            started = time.perf_counter()
            run()
            return (time.perf_counter() - started) * 1e6
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeats):
            run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e3 / repeats


def quantized(scheme: str, width: int, channels: int, device: torch.device) -> QuantizedLinear:
    signs = (2 * torch.randint(0, 2, (width,)) - 1).to(torch.int8)
    weight, bias = torch.randn(channels, width), torch.randn(channels)
    layer = QuantizedLinear.from_float(FORMATS[scheme], weight, bias, signs=signs)
    return layer.to(device)


def measure_linear(
    frames: list[int], device: torch.device, rounds: int
) -> Iterator[dict[str, Any]]:
    """Quantised layers with their prologue and their product alone, cuBLAS in bfloat16, torch's
    int8 product."""
    for count in frames:
        for name, (width, channels) in LAYERS.items():
            tokens = count * TOKENS_PER_FRAME
            x = torch.randn(tokens, width, device=device, dtype=torch.bfloat16)
            weight, bias = (
                torch.randn(*shape, device=device).to(x.dtype)
                for shape in ((channels, width), (channels,))
            )
            codes, weight_codes = (t.to(torch.int8) for t in (x.clamp(-8, 7), weight.clamp(-8, 7)))
            candidates: dict[str, Callable[[], Any]] = {
                "bf16": partial(F.linear, x, weight, bias),
                "int8 product of torch": partial(torch._int_mm, codes, weight_codes.T),
            }
            for scheme in ("w4a4", "w4a8", "w8a8"):
                layer = quantized(scheme, width, channels, device)
                candidates[f"{scheme} layer"] = partial(layer, x)
                candidates[f"{scheme} prologue"] = partial(layer.quantize_input, x)
            yield {
                "what": f"{name} {width} -> {channels}",
                "frames": count,
                "tokens": tokens,
                "operations": 2 * tokens * width * channels,
                "timings": measure(candidates, device, rounds),
            }


def measure_heads(frames: list[int], device: torch.device, rounds: int) -> Iterator[dict[str, Any]]:
    """qk-norm and rotary positions in one kernel, and as separate torch operations."""
    for count in frames:
        tokens = count * TOKENS_PER_FRAME
        qkv = torch.randn(1, tokens, 3, HEADS, HEAD_WIDTH, device=device, dtype=torch.bfloat16)
        norm = torch.ones(HEAD_WIDTH, device=device)
        table = torch.rand(tokens, HEAD_WIDTH, device=device)
        definition = (norm, norm, norm, norm, ops.NORM_EPS, table, table)
        fused: Callable[[], tuple[Tensor, Tensor]] = partial(
            ops.qk_norm_rope,
            qkv,
            q_weight=norm,
            q_bias=norm,
            k_weight=norm,
            k_bias=norm,
            cos=table,
            sin=table,
        )
        candidates = {"fused": fused, "separate": partial(reference.qk_norm_rope, qkv, *definition)}
        yield {
            "what": "qk-norm + RoPE",
            "frames": count,
            "timings": measure(candidates, device, rounds),
        }


def measure_network(
    frames: list[int], device: torch.device, rounds: int
) -> Iterator[dict[str, Any]]:
    """VGGT-1B with all heads but the tracker, under autocast to bfloat16.

    "public": as the public code runs it, dense heads in float32. "fused": the same network
    compiled, dense heads in bfloat16. "W4A4": quantised, dense heads in bfloat16, also captured in
    a graph.
    """
    try:
        from benchmarks.random_network import random_network
        from quantization.recipe import Recipe
    except ImportError as error:
        print(f"network: left out, {error}", file=sys.stderr)
        return
    plain, quantised = (
        random_network(recipe).to(device).requires_grad_(False) for recipe in (None, Recipe())
    )
    fused: Any = torch.compile(plain) if device.type == "cuda" else plain
    for count in frames:
        images = torch.rand(1, count, 3, *SIZE, device=device)
        candidates = {
            "public": partial(run_network, plain, images, "float32"),
            "fused": partial(run_network, fused, images, "bfloat16"),
            "W4A4": partial(run_network, quantised, images, "bfloat16"),
        }
        peaks = {name: peak_memory(call, device) for name, call in candidates.items()}
        try:
            candidates["W4A4 in a graph"] = captured(candidates["W4A4"], device)
        except RuntimeError as error:
            print(f"network in a graph: left out, {error}", file=sys.stderr)
        timings = measure_eagerly(candidates, device, max(3, rounds // 3))
        yield {
            "what": f"{SIZE[1]} x {SIZE[0]}",
            "frames": count,
            "peak_bytes": peaks,
            "timings": timings,
        }


def run_network(net: Any, images: Tensor, dense_heads: str) -> Any:
    net.dense_heads = dense_heads
    with torch.inference_mode(), torch.autocast(images.device.type, torch.bfloat16):
        return net(images)


def measure_eagerly(
    candidates: dict[str, Callable[[], Any]], device: torch.device, rounds: int
) -> dict[str, Any]:
    """As `measure`, but capturing nothing: what a service that calls the network from Python
    gets."""
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            samples[name].append(timed(call, device, repeats=1))
    return {
        name: {
            "median_us": statistics.median(values),
            "quartiles_us": statistics.quantiles(values, n=4)[::2],
        }
        for name, values in samples.items()
    }


def peak_memory(call: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes of torch's allocator at most, parameters of all networks included; warms the call
    up."""
    call()
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)


PARTS = {"linear": measure_linear, "heads": measure_heads, "network": measure_network}

if __name__ == "__main__":
    sys.exit(main())
