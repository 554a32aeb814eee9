"""Time and memory of refining photographs, by stage.

    python -m benchmarks.refinement [--model build/demo/artifact] [--photographs FOLDER]
        [--pictures 8] [--width 1920] [--height 1080] [--pixels 1024] [--threads 2] [--json FILE]

The pictures are those of a folder, spread evenly and brought to the size, or rendered of a
synthetic room with the textures of photographs. Seconds are by the clock, and in brackets of the
processor, on Linux; `dense` is what dense depth takes on top of the cameras. Memory is the most
that the refinement's own process held.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmarks.timing import machine, write
from model.files.artifact import load
from model.reconstruct import reconstruct
from model.scene.pictures import SUFFIXES, open_image
from refinement.options import RefineOptions
from refinement.photograph import Photograph
from refinement.result import VERIFIED, Refinement
from refinement.run import refine
from scenes.synthetic.distribution import TEST_SETS
from scenes.synthetic.generator import SyntheticScenes


def photographs(source: Path, folder: Path, count: int, size: tuple[int, int]) -> list[Photograph]:
    """JPEGs of `size` (width, height) in `folder`: the middle of pictures of `source`."""
    files = sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES)
    found = []
    for index in np.linspace(0, len(files) - 1, count).round().astype(int):
        path = folder / f"{index}.jpg"
        ImageOps.fit(open_image(files[index]), size).save(path, quality=92)
        found.append(Photograph(path, size[1], size[0]))
    return found


def rendered(folder: Path, count: int, height: int, width: int, seed: int) -> list[Photograph]:
    """JPEGs of one room."""
    rooms = SyntheticScenes("test", 1, count, height, width, seed, TEST_SETS["photo"])
    found = []
    for index, image in enumerate(rooms[0].images):
        path = folder / f"{index}.jpg"
        values = (image.permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)
        Image.fromarray(values).save(path, quality=92)
        found.append(Photograph(path, height, width))
    return found


class Processor:
    """Seconds of the processor that the refinement's process spends in each stage. It is told of
    progress ten times a second, and asks the system then."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = 0.0

    def __call__(self, stage: str, share: float) -> None:
        spent = sum(map(self._spent, self._children()))
        self.seconds[stage] = self.seconds.get(stage, 0.0) + max(spent - self._last, 0.0)
        self._last = max(spent, self._last)

    def _children(self) -> list[str]:
        lists = Path(f"/proc/{os.getpid()}/task").glob("*/children")
        return [child for each in lists for child in each.read_text().split()]

    def _spent(self, process: str) -> float:
        try:
            words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            return 0.0
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def measured(options: argparse.Namespace, processor: Processor) -> Refinement:
    network = load(options.model)
    with tempfile.TemporaryDirectory() as name:
        count, height, width = options.pictures, options.height, options.width
        pictures = (
            photographs(options.photographs, Path(name), count, (width, height))
            if options.photographs
            else rendered(Path(name), count, height, width, options.seed)
        )
        scene = reconstruct(network, [picture.path for picture in pictures])
        limits = RefineOptions(seconds=3600, pixels=options.pixels, threads=options.threads)
        return refine(pictures, scene, "dense", limits, processor)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("build/demo/artifact"))
    parser.add_argument("--photographs", type=Path, metavar="FOLDER")
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--width", type=int, default=1920)
    parser.add_argument("--height", type=int, default=1080)
    parser.add_argument("--pixels", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    processor = Processor()
    refined = measured(options, processor)
    dense = refined.dense or ()
    pixels = sum(found.depth.size for found in dense)
    verified = sum(int((found.source == VERIFIED).sum()) for found in dense)
    results = {
        "pictures": options.pictures,
        "size": [options.width, options.height],
        "method": refined.method,
        "kept": refined.kept,
        "seconds": {stage: round(taken, 1) for stage, taken in refined.seconds.items()},
        "processor_seconds": {stage: round(s, 1) for stage, s in processor.seconds.items()},
        "peak_mib": refined.peak_bytes >> 20,
        "dense_pixels": pixels,
        "verified_share": round(verified / pixels, 3) if pixels else None,
        "machine": machine(),
    }
    print(
        f"{options.pictures} pictures of {options.width}x{options.height}: {refined.method}, "
        f"{refined.kept} refined"
    )
    for stage, taken in refined.seconds.items():
        print(f"  {stage:<40} {taken:7.1f} s ({processor.seconds.get(stage, 0.0):.1f} s)")
    print(f"  {'peak memory':<40} {refined.peak_bytes >> 20:7d} MiB")
    print(f"  {'verified':<40} {100 * verified / max(pixels, 1):7.1f} % of {pixels:,} pixels")
    for reason in filter(None, (refined.reason, refined.dense_reason)):
        print(f"  {reason.code}: {reason.message}")
    if options.json:
        write(options.json, results)


if __name__ == "__main__":
    main()
