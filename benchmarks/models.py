"""Every named network with random weights: parameters, artifact size, and what one picture costs a
processor core.

    python -m benchmarks.models [--models da3-small pi3x]

Values do not change sizes or times. Time is the process's own on one thread, so that other programs
on the machine count little; the picture has the network's longer side, in the shape 4 : 3.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.random_network import random_network
from model import families
from model.files.artifact import save
from model.files.manifest import TENSORS
from model.network.config import NetworkConfig
from quantization.recipe import Recipe


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", choices=families.PRESETS, default=families.PRESETS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.models:
        parameters, size, seconds = measure(families.PRESETS[name])
        print(
            f"{name:16} {parameters / 1e6:7.0f} M {size / 1e6:7.1f} MB {seconds:7.2f} s", flush=True
        )
    return 0


@torch.inference_mode()
def measure(config: NetworkConfig) -> tuple[int, int, float]:
    """Parameters, bytes of the artifact, and processor seconds of a pass over one picture, where a
    smaller one was passed before."""
    family = families.of(config)
    heads = [head for head in config.heads if head not in ("point", "track")]
    net = random_network(Recipe().of(family), config.with_heads(heads))
    with tempfile.TemporaryDirectory() as folder:
        manifest = save(net, Path(folder) / "artifact")
    grid = family.grid(config)
    height = round(grid.longer_side * 3 / 4 / grid.patch_size) * grid.patch_size
    picture = torch.rand(1, 3, height, grid.longer_side)
    net(picture[:, :, : 4 * grid.patch_size, : 4 * grid.patch_size])  # what is made once is made
    started = time.process_time()
    net(picture)
    seconds = time.process_time() - started
    with torch.device("meta"):
        parameters = sum(p.numel() for p in family.build(config.with_heads(heads)).parameters())
    return parameters, manifest["files"][TENSORS]["bytes"], seconds


if __name__ == "__main__":
    raise SystemExit(main())
