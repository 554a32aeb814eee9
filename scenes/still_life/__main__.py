"""`python -m scenes.still_life --out FOLDER` renders the bundled still life again.

Needs the extra `samples`, and LLVM's shared library from 16 on (`DRJIT_LIBLLVM_PATH` if it is not
found). Three passes take about 10 minutes of a core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scenes.still_life.arrangement import arrange
from scenes.still_life.cameras import HEIGHT, WIDTH, walk
from scenes.still_life.sample_set import write_sample_set

SEED, PASSES = 7, 3


def main() -> None:
    """Render, and write the folder."""
    parser = argparse.ArgumentParser(prog="python -m scenes.still_life", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    parser.add_argument(
        "--passes", type=int, default=PASSES, help="of 6 light paths a pixel; default: %(default)s"
    )
    options = parser.parse_args()
    try:
        from scenes.still_life.render import Studio, developed
    except ImportError as error:
        parser.error(f'rendering needs the extra "samples": pip install ".[samples]" ({error})')

    studio = Studio(arrange(options.seed))
    cameras = walk(options.seed)
    pictures, depths = [], []
    for index, camera in enumerate(cameras):
        light = studio.picture(camera, WIDTH, HEIGHT, options.passes, seed=index)
        pictures.append(developed(light))
        depths.append(studio.depth(camera, WIDTH // 3, HEIGHT // 3))
        print(f"picture {index + 1} of {len(cameras)}", flush=True)
    description = f"still life, path-traced by scenes/still_life, seed {options.seed}"
    quality = write_sample_set(options.out, description, pictures, cameras, depths)
    print(f"{options.out}: JPEG quality {quality}")


if __name__ == "__main__":
    main()
