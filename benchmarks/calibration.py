"""What calibrating VGGT-1B takes: seconds a block and peak memory, extrapolated to the whole
network. On a CPU these are processor seconds, of all threads together, so that whatever else runs
on the machine does not count.

    python -m benchmarks.calibration --json benchmarks/results/calibration.json

Random weights, drawn when they are asked for (cost does not depend on their values); frames of
518x392. One block of each kind is quantised by our recipe, for 4-bit and 8-bit activations, on two
numbers of samples; a straight line through both gives the time and the memory of `--full` samples,
and the number of blocks of each kind the time of the network.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from kernels import kernel_path
from model import families
from model.families.vggt.config import VGGTConfig
from model.families.vggt.presets import PRESETS
from model.files.checkpoint import build_empty
from model.files.provenance import commit
from model.network.network import Stage
from quantization.calibration.block import quantize_stage
from quantization.calibration.stages import Read, Stream, Walk
from quantization.recipe import RECIPES

HEIGHT, WIDTH = 392, 518
_HEAD = 64  # channels


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--samples", type=int, nargs=2, default=(1, 3), help="measured (default: 1 3)"
    )
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument(
        "--full", type=int, default=20, help="extrapolated to (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--width",
        type=int,
        help="a multiple of 64: of a narrower network, to see sooner how memory grows with "
        "samples; tokens take less in proportion, pictures the same (default: VGGT-1B's 1024)",
    )
    args = parser.parse_args()
    if args.width is not None and (args.width < _HEAD or args.width % _HEAD):
        parser.error(f"--width is {args.width}; expected a multiple of {_HEAD}")
    config = _config(args.width)
    shapes = {name: tuple(p.shape) for name, p in build_empty(config).named_parameters()}

    def read(name: str) -> Tensor:
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        return torch.randn(shapes[name], generator=generator) * (
            0.02 if len(shapes[name]) > 1 else 0.1
        )

    few, many = args.samples
    if not 0 < few < many:
        parser.error(f"--samples is {few} {many}; expected a number and a larger one")
    seconds: dict[str, list[float]] = {}
    peaks = []
    for count in args.samples:
        for kind, spent in _blocks(config, read, count, args).items():
            seconds.setdefault(kind, []).append(spent)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    blocks = {"encoder": 24, "frame": 24, "global": 24}
    whole = 0.0
    for kind, (low, high) in seconds.items():
        slope = (high - low) / (many - few)
        whole += blocks[kind] * (low + slope * (args.full - few))
    report = {
        "command": f"python -m benchmarks.calibration --samples {few} {many} --frames "
        f"{args.frames} --full {args.full}"
        + ("" if args.width is None else f" --width {args.width}"),
        "recipe": RECIPES["best"].of(families.of(config)).to_dict(),
        "seconds_a_block": {
            kind: [round(value, 1) for value in both] for kind, both in seconds.items()
        },
        "samples": list(args.samples),
        "frames": args.frames,
        "extrapolated": {
            "samples": args.full,
            "minutes": round(whole / 60, 1),
            "peak_resident_bytes": round(
                peaks[0] + (peaks[1] - peaks[0]) / (many - few) * (args.full - few)
            ),
            "camera_head": "not included",
        },
        "peak_resident_bytes": peaks,
        "kernel_path": str(kernel_path(args.device)),
        "device": torch.cuda.get_device_name() if args.device.startswith("cuda") else args.device,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "commit": commit(),
    }
    text = json.dumps(report, indent=1)
    print(text)
    if args.json is not None:
        args.json.write_text(text + "\n")
    return 0


def _config(width: int | None) -> VGGTConfig:
    whole = PRESETS["vggt-1b"].with_heads(("camera",))
    if width is None:
        return whole
    assert whole.encoder is not None
    heads = width // _HEAD
    encoder = replace(whole.encoder, embed_dim=width, num_heads=heads)
    return replace(
        whole, embed_dim=width, num_heads=heads, patch_embed="dino_vit", patch_embed_vit=encoder
    )


def _blocks(
    config: VGGTConfig, read: Read, count: int, args: argparse.Namespace
) -> dict[str, float]:
    """Seconds that the first block of each kind takes on `count` samples."""
    generator = torch.Generator().manual_seed(0)
    images: Sequence[Tensor] = [
        torch.rand(args.frames, 3, HEIGHT, WIDTH, generator=generator) for _ in range(count)
    ]
    walk = Walk(config, read, images, args.device)
    meant, seen, wide = Stream(walk), Stream(walk), Stream(walk)
    spent: dict[str, float] = {}
    for stage in walk.stages:
        kind = _kind(stage)
        if kind in spent or stage.kind == "head":
            continue
        for stream in (meant, seen, wide):
            stream.enter(stage)
        started = _seconds(args.device)
        quantize_stage(walk, stage, meant, seen, RECIPES["best"], wide)
        spent[kind] = _seconds(args.device) - started
        print(f"{count} samples, {stage.name}: {spent[kind]:.1f} s", file=sys.stderr, flush=True)
    return spent


def _seconds(device: str) -> float:
    if not device.startswith("cuda"):
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _kind(stage: Stage) -> str:
    if stage.name.startswith("aggregator.patch_embed."):
        return "encoder"
    return "frame" if stage.kind == "local" else "global"


if __name__ == "__main__":
    sys.exit(main())
