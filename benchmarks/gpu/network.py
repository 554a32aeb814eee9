"""Step "network": VGGT-1B with all heads but the tracker and random weights: as the public code
runs it, with bfloat16 weights, in W4A4, and in W4A4 in a graph; peak memory; where W4A4 spends its
time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.gpu.rows import Step, start
from benchmarks.gpu.timing import captured, measure
from benchmarks.random_network import random_network
from quantization.recipe import Recipe

SIDE = 518  # pixels
FRAMES = (1, 10, 32)
PROFILED = 25  # kernels that are listed


def main() -> None:
    step = start("network", __doc__)
    config, side, frames = None, SIDE, FRAMES
    if step.small:
        from tests.model.conftest import tiny_config

        config, side, frames = tiny_config(), 56, (1,)
    networks: dict[str, Any] = {}
    for name, recipe in (("W4A4", Recipe()), ("public", None)):
        networks[name] = random_network(recipe, config, step.device).requires_grad_(False)
        step.write(network=name, ready=True)
    for count in frames:
        images = torch.rand(1, count, 3, side, side, device=step.device)
        quantized = partial(run_network, networks["W4A4"], images, "bfloat16")
        calls: dict[str, Callable[[], Any]] = {
            "W4A4": quantized,
            "float32 weights, as public": partial(
                run_network, networks["public"], images, "float32"
            ),
        }
        for name, call in calls.items():
            write(step, count, name, call)
        if step.device.type == "cuda":
            try:
                write(step, count, "W4A4 in a graph", captured(quantized, step.device))
            except RuntimeError as error:
                step.write(frames=count, network="W4A4 in a graph", error=str(error)[:200])
            profile(step, count, quantized)
    half = networks["public"]
    for module in half.aggregator.modules():  # the camera head computes in float32
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.to(torch.bfloat16)
    for count in frames:
        images = torch.rand(1, count, 3, side, side, device=step.device)
        write(step, count, "bfloat16 weights", partial(run_network, half, images, "bfloat16"))


def run_network(net: Any, images: torch.Tensor, dense_heads: str) -> Any:
    net.dense_heads = dense_heads
    with torch.autocast(images.device.type, torch.bfloat16):
        return net(images)


def write(step: Step, frames: int, name: str, call: Callable[[], Any]) -> None:
    """One row of its time from Python and its peak memory, or of why there is none."""
    try:
        peak = peak_bytes(call, step.device)
        timings = measure({name: [call]}, step.device, rounds=3, graph=False)
        step.write(frames=frames, network=name, timings=timings[name], peak_bytes=peak)
    except (RuntimeError, ValueError) as error:  # out of memory, too
        step.write(frames=frames, network=name, error=str(error)[:200])


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int | None:
    """Of torch's allocator, all networks included."""
    call()
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)


def profile(step: Step, frames: int, call: Callable[[], Any]) -> None:
    """The kernels that take most time."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as record:
        call()
        torch.cuda.synchronize(step.device)
    events = sorted(record.key_averages(), key=lambda event: -event.device_time_total)
    for event in events[:PROFILED]:
        step.write(
            frames=frames, kernel=event.key[:120], calls=event.count, us=event.device_time_total
        )


if __name__ == "__main__":
    main()
