"""Times of calls on a GPU, without Python's own where they can be captured in a graph."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

Call = Callable[[], Any]
_L2_BYTES = 60 * 2**20  # of an H200; inputs that take turns beyond it come from memory


def copies(bytes_each: int, device: torch.device) -> int:
    """How many inputs of a size should take turns, so that the cache holds none of them."""
    return 1 if device.type == "cpu" else min(16, 1 + _L2_BYTES // bytes_each)


def measure(
    candidates: dict[str, Sequence[Call]], device: torch.device, rounds: int = 7, graph: bool = True
) -> dict[str, Any]:
    """Median and quartiles of the microseconds of a call, by candidate; "error" for what can't run.
    The calls of a candidate do the same on different inputs and are timed in a row; candidates take
    turns in every round."""
    runs: dict[str, Call] = {}
    result: dict[str, Any] = {}
    for name, calls in candidates.items():
        try:
            runs[name] = _prepared(calls, device, graph)
        except (RuntimeError, ValueError) as error:
            result[name] = {"error": str(error).splitlines()[0][:200]}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            samples[name].append(_timed(run, device) / len(candidates[name]))
    for name, values in samples.items():
        low, _, high = statistics.quantiles(values, n=4)
        result[name] = {"median_us": statistics.median(values), "quartiles_us": [low, high]}
    return result


def _prepared(calls: Sequence[Call], device: torch.device, graph: bool) -> Call:
    def run() -> None:
        for call in calls:
            call()

    run()
    if device.type != "cuda":
        return run
    torch.cuda.synchronize(device)
    return captured(run, device) if graph else run


def captured(run: Call, device: torch.device) -> Call:
    """`run` in a CUDA graph."""
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream(device).wait_stream(side)
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return partial(graph.replay)


def _timed(run: Call, device: torch.device) -> float:
    if device.type != "cuda":
        started = time.perf_counter()
        run()
        return (time.perf_counter() - started) * 1e6
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e3
