"""What 8-bit activations cost on this machine beside 4-bit ones: measured, on the layers of a
network.

The product of 4-bit weights and 4-bit activations is faster only where a processor multiplies
4-bit numbers, or where sums of 4-bit products fit into fewer instructions (AVX2). AMX, AVX-512
VNNI, AVX-VNNI and Hopper's warpgroup instructions multiply 8-bit numbers either way.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Mapping
from typing import NamedTuple

import torch

from kernels.cache import cache_folder, keep
from kernels.formats import NumberFormat, with_wide_activations
from kernels.linear import QuantizedLinear
from kernels.path import kernel_path

FREE = 1.05
"""The ratio of times up to which wider activations count as free: what one run differs by from the
next."""

_TOKENS = 256
_ROUNDS = 5


class LayerShape(NamedTuple):
    """What the time of a quantised layer depends on."""

    format: NumberFormat
    in_features: int
    out_features: int
    rotated: bool
    smoothed: bool


def wide_cost(layers: Mapping[LayerShape, int], device: str | torch.device = "cpu") -> float:
    """The time of so many layers of each shape with 8-bit activations over that with their own.

    Layers without a format for 8-bit activations do not count; 1.0 if none does. Measured once on a
    machine, and kept where compiled kernels are: some tens of milliseconds for a small network, a
    second for one of a billion parameters on a CPU.
    """
    file = cache_folder() / f"widths-{_identity(layers, torch.device(device))}.json"
    try:
        return float(json.loads(file.read_text())["cost"])
    except (OSError, ValueError, KeyError, TypeError):
        cost = round(_measure(layers, device), 3)
    keep(file, {"cost": cost})
    return cost


def _identity(layers: Mapping[LayerShape, int], device: torch.device) -> str:
    """What the measurement depends on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.node()
    kernels = str(kernel_path(device))
    shapes = sorted((shape.format.name, *shape[1:], count) for shape, count in layers.items())
    parts = [name, kernels, torch.get_num_threads(), torch.__version__, shapes]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _measure(layers: Mapping[LayerShape, int], device: str | torch.device) -> float:
    narrow = wide = 0.0
    for shape, count in layers.items():
        known = with_wide_activations(shape.format)
        if known is None:
            continue
        layer = _random_layer(shape).to(device)
        wider = layer.with_activations(known, layer.weight_scale)
        x = torch.randn(_TOKENS, shape.in_features, device=device)
        times = _fastest([layer, wider], x)
        narrow, wide = narrow + count * times[0], wide + count * times[1]
    return wide / narrow if narrow else 1.0


def _random_layer(shape: LayerShape) -> QuantizedLinear:
    generator = torch.Generator().manual_seed(0)
    k, n, stored = shape.in_features, shape.out_features, shape.format
    weight = torch.randint(0, 256, (n, k // stored.codes_to_a_byte), generator=generator)
    return QuantizedLinear(
        stored,
        weight.to(torch.uint8 if stored.packed else torch.int8),
        torch.ones(n),
        signs=torch.ones(k, dtype=torch.int8) if shape.rotated else None,
        smoothing=torch.ones(k) if shape.smoothed else None,
    )


@torch.inference_mode()
def _fastest(layers: list[QuantizedLinear], x: torch.Tensor) -> list[float]:
    """Seconds of the fastest of several runs of each layer, in turns."""
    best = [float("inf")] * len(layers)
    for _ in range(_ROUNDS):
        for i, layer in enumerate(layers):
            layer(x)  # not timed: brings the layer's weight into the caches
            _wait(x)
            started = time.perf_counter()
            layer(x)
            _wait(x)
            best[i] = min(best[i], time.perf_counter() - started)
    return best


def _wait(x: torch.Tensor) -> None:
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
