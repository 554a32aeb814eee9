"""The CUDA kernels from the command line; none of it needs a GPU.

python -m kernels.cuda build [sm_80 ...]     # compile for all targets, or for some
python -m kernels.cuda tiles                 # which tile the layers of VGGT-1B get
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from kernels.cuda.build import BuildError, build
from kernels.cuda.targets import TARGETS, Target, find_target
from kernels.cuda.tiles import choose_tile, tiles_of

_LAYERS = {"qkv": 3072, "proj, fc2": 1024, "fc1": 4096}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m kernels.cuda", description=__doc__.split("\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    builder = commands.add_parser("build", help="compile the kernels")
    builder.add_argument(
        "targets", nargs="*", help=", ".join(target.architecture for target in TARGETS.values())
    )
    tiles = commands.add_parser("tiles", help="print which tile of the output a block computes")
    tiles.add_argument("--target", default="sm_90a")
    tiles.add_argument("--multiprocessors", type=int, default=132)
    tiles.add_argument("--frames", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    tiles.add_argument(
        "--tokens-per-frame", type=int, default=1041, help="of 518 x 392 pixels: 1041"
    )
    args = parser.parse_args()
    try:
        if args.command == "build":
            build_all(args.targets)
        else:
            print_tiles(
                find_target(args.target), args.frames, args.tokens_per_frame, args.multiprocessors
            )
    except (ValueError, BuildError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def build_all(names: list[str]) -> None:
    """Compiles for the named targets, or for all of them, as many at a time as there are cores."""
    chosen = [find_target(name) for name in names] or list(TARGETS.values())
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for target, path in zip(chosen, pool.map(build, chosen), strict=True):
            print(f"{target.architecture:8} {path.stat().st_size / 2**20:5.1f} MiB  {path}")


def print_tiles(
    target: Target, frames: list[int], tokens_per_frame: int, multiprocessors: int
) -> None:
    print(
        f"{'tokens':>8}  "
        + "  ".join(f"{name + ' -> ' + str(n):>24}" for name, n in _LAYERS.items())
    )
    for tokens in (count * tokens_per_frame for count in frames):
        usable = tiles_of(target)
        chosen = [
            choose_tile(tokens, channels, multiprocessors, usable) for channels in _LAYERS.values()
        ]
        print(f"{tokens:>8}  " + "  ".join(f"{tile!s:>24}" for tile in chosen))


if __name__ == "__main__":
    sys.exit(main())
