"""Step "trial": every part of the kernels against its definition, each as its process ended."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.gpu.rows import start
from kernels.cuda.build import build
from kernels.cuda.products import PRODUCTS, products_of
from kernels.cuda.targets import TARGETS, find_target
from kernels.cuda.tiles import tiles_of
from kernels.cuda.trial import HEADS, PROLOGUES, tile_part
from kernels.cuda.verdict import TIME_LIMIT, judge


def main() -> None:
    step = start("trial", __doc__)
    if step.small:
        target, path = find_target("sm_90a"), Path(step.backend().library.handle._name)
        parts: tuple[str, ...] = (HEADS, tile_part(0), *PRODUCTS)
    else:
        target = TARGETS[torch.cuda.get_device_capability(step.device)]
        path = build(target)
        tiles = (tile_part(tile.index) for tile in tiles_of(target))
        parts = (PROLOGUES, HEADS, *tiles, *products_of(target.capability))
    for part in parts:
        # never one that was kept: this is a measurement
        verdict = judge(path, target.architecture, str(step.device), (part,), "", TIME_LIMIT, False)
        step.write(part=part, verdict=verdict[part], architecture=target.architecture)


if __name__ == "__main__":
    main()
