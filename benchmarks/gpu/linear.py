"""Step "linear": layers of VGGT-1B with their prologue and their product apart, against what torch
has: bfloat16, and products on int8 and e4m3, bare and in the whole layer. By which of all these a
layer runs is measured as the service does it, and written last."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.gpu.rows import Step, start
from benchmarks.gpu.timing import Call, copies, measure
from kernels.cuda.backend import CudaBackend
from kernels.cuda.products import takes

LAYERS = {"qkv": (1024, 3072), "proj": (1024, 1024), "fc1": (1024, 4096), "fc2": (4096, 1024)}
TOKENS_PER_FRAME = 1374  # of 518 x 518 pixels
FRAMES = (1, 10, 4, 32, 100)


def main() -> None:
    step = start("linear", __doc__)
    backend = step.backend()
    for frames in (1,) if step.small else FRAMES:
        tokens = 8 if step.small else frames * TOKENS_PER_FRAME
        for name, (depth, channels) in LAYERS.items():
            depth, channels = (64, 32) if step.small else (depth, channels)
            timings = measure(candidates(step, backend, name, tokens, depth, channels), step.device)
            step.write(
                layer=name,
                frames=frames,
                tokens=tokens,
                depth=depth,
                channels=channels,
                tile=str(backend.tile_for(tokens, channels)),
                operations=2 * tokens * depth * channels,
                timings=timings,
            )
    if backend.times is not None:
        step.write(seconds_by_way=backend.times.times)


def candidates(
    step: Step, backend: CudaBackend, name: str, tokens: int, depth: int, channels: int
) -> dict[str, list[Call]]:
    device = step.device
    inputs = [
        torch.randn(tokens, depth, device=device).bfloat16()
        for _ in range(copies(2 * tokens * depth, device))
    ]
    calls: dict[str, list[Call]] = {}
    plain = torch.randn(channels, depth, device=device).bfloat16()
    calls["bf16"] = [partial(F.linear, x, plain) for x in inputs]
    codes = [x.clamp(-8, 7).to(torch.int8) for x in inputs]
    whole = plain.clamp(-8, 7).to(torch.int8)
    calls["int8 product of torch"] = [partial(torch._int_mm, each, whole.T) for each in codes]
    calls["e4m3 product of torch"] = scaled_products(codes, whole)
    weight = torch.randint(0, 256, (channels, depth // 2), dtype=torch.uint8, device=device)
    vector = torch.rand(channels, device=device)
    norm = torch.rand(depth, device=device) if name in ("qkv", "fc1") else None
    signs = torch.ones(depth, dtype=torch.int8, device=device)
    for bits in (4, 8):
        before = (norm, norm, 1e-5, name == "fc2", signs, None, None)
        output = torch.empty(tokens, channels, dtype=torch.bfloat16, device=device)
        tile = backend.tile_for(tokens, channels)
        scheme, layout = backend.scheme_for(bits, 4, tile)
        prologue = [partial(backend.quantize, x, (*before, bits), layout) for x in inputs]
        calls[f"W4A{bits} prologue"] = list(prologue)
        quantized = [call() for call in prologue]
        calls[f"W4A{bits} product"] = [
            partial(backend.multiply, each, weight, scheme, tile, output, scale, vector, vector)
            for each, scale in quantized
        ]
        rest: tuple[Any, ...] = (weight, vector, vector, bits, 4, *before, None, None)
        calls[f"W4A{bits} layer"] = [partial(backend.linear, x, *rest) for x in inputs]
        around = ((*before, bits), (vector, vector, None, None), torch.bfloat16)
        for way in backend.products:
            if takes(way, bits, 4):
                calls[f"W4A{bits} layer, product by {way}"] = [
                    partial(backend.linear_by, x, weight, 4, *around, way) for x in inputs
                ]
    return calls


def scaled_products(codes: list[torch.Tensor], weight: torch.Tensor) -> list[Call]:
    """4-bit codes are exact in e4m3."""
    small = weight.to(torch.float8_e4m3fn)
    columns = torch.ones(1, weight.shape[0], device=weight.device)
    calls: list[Call] = []
    for each in codes:
        rows = torch.ones(each.shape[0], 1, device=each.device)
        given = (each.to(torch.float8_e4m3fn), small.T, rows, columns)
        calls.append(partial(torch._scaled_mm, *given, out_dtype=torch.bfloat16))
    return calls


if __name__ == "__main__":
    main()
