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
    # those of a group share a process as long as none of them ends it
    if step.small:
        target, path = find_target("sm_90a"), Path(step.backend().library.handle._name)
        groups: list[tuple[str, ...]] = [(HEADS, tile_part(0)), tuple(PRODUCTS)]
    else:
        target = TARGETS[torch.cuda.get_device_capability(step.device)]
        path = build(target)
        tiles = [(tile_part(tile.index),) for tile in tiles_of(target)]
        groups = [(PROLOGUES, HEADS), *tiles, products_of(target.capability)]
    for parts in groups:
        # never one that was kept: this is a measurement
        verdict = judge(path, target.architecture, str(step.device), parts, "", TIME_LIMIT, False)
        for part, end in verdict.items():
            step.write(part=part, verdict=end, architecture=target.architecture)


if __name__ == "__main__":
    main()
