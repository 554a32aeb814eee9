"""Step "probe": what the machine is, how fast it copies and multiplies."""

from __future__ import annotations

import platform

import torch

from benchmarks.gpu.rows import start
from benchmarks.gpu.timing import measure


def main() -> None:
    step = start("probe", __doc__)
    device = step.device
    step.write(torch=torch.__version__, cuda=torch.version.cuda, python=platform.python_version())
    if device.type == "cuda":
        step.write(gpu=str(torch.cuda.get_device_properties(device)))
    size, side = (2**16, 64) if step.small else (2**30, 8192)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target, square = torch.empty_like(source), torch.randn(side, side, device=device).bfloat16()
    times = measure(
        {"copy": [lambda: target.copy_(source)], "bf16 product": [lambda: square @ square]}, device
    )
    gigabytes = 2 * size / times["copy"]["median_us"] / 1e3
    teraflops = 2 * side**3 / times["bf16 product"]["median_us"] / 1e6
    step.write(copied_gb_per_s=gigabytes, bf16_tflops=teraflops, side=side, bytes=size)


if __name__ == "__main__":
    main()
